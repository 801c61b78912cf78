"""Killed or stopped at any moment, the next run finishes the job: nothing is lost, half-written or decided twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from projects import clean_environment, new_project, result_of, run_darkroom, write_shapes
from test_pipeline import SMALL, states


def start(folder: Path, api: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", *arguments],
        cwd=folder,
        env=clean_environment(PREFECT_API_URL=api),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own, as a terminal gives each command.
        start_new_session=True,
    )


def kill_when_it_says(process: "subprocess.Popen[str]", words: str) -> list[psutil.Process]:
    """SIGKILL as soon as a line holds the words; returns the children that it had."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            return children
    raise AssertionError(f"the run ended without saying {words!r}")


def ctrl_c_when_it_says(process: "subprocess.Popen[str]", words: str) -> tuple[str, list[psutil.Process]]:
    """Ctrl-C in the terminal, by an impatient person; returns what it says then, and the children that it had."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            children = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.2)
            os.killpg(process.pid, signal.SIGINT)
            said = process.stderr.read()
            process.wait(20)
            return said, children
    raise AssertionError(f"the run ended without saying {words!r}")


@pytest.mark.timeout(400)
def test_a_run_that_is_killed_twice_and_stopped_once_is_finished_by_the_next(tmp_path: Path, prefect_api: str) -> None:
    folder = new_project(tmp_path / "project")
    images = write_shapes(tmp_path / "shapes", each=40)
    settings = [text for value in SMALL for text in ("--set", value)]

    training = kill_when_it_says(start(folder, prefect_api, "run", "--data", str(images), *settings), "train 3/8")
    gone, alive = psutil.wait_procs(training, timeout=10)
    assert gone
    assert not alive, "training outlived its parent"
    run = start(folder, prefect_api, "run")
    said, training = ctrl_c_when_it_says(run, "train 5/8")
    assert run.returncode == 130
    assert said.splitlines()[-1] == (
        "darkroom: run was stopped; the same command resumes: finished steps are reused, and a training continues from "
        "its last checkpoint"
    )
    assert "Traceback" not in said
    assert psutil.wait_procs(training, timeout=5)[1] == [], "training continued behind the prompt"
    kill_when_it_says(start(folder, prefect_api, "run"), "quantize  ran")
    time.sleep(0.3)
    result = result_of(run_darkroom(folder, prefect_api, "run", "--json"))

    assert result["promoted"] is True
    assert {name: states(result)[name] for name in ("validate", "train", "finetune", "evaluate", "quantize")} == {
        "validate": "reused",
        "train": "reused",
        "finetune": "reused",
        "evaluate": "reused",
        "quantize": "reused",
    }
    history = json.loads(next((folder / ".darkroom/work/train").glob("*/history.json")).read_text())
    assert [epoch["epoch"] for epoch in history] == list(range(1, 9))
    models = result_of(run_darkroom(folder, prefect_api, "models", "--json"))
    assert models["champion"] == result["version"]
    assert [entry["action"] for entry in models["ledger"]] == ["promoted"]
    drafts = [path for path in (folder / "data").rglob(".*") if path.name not in (".gitignore",)]
    assert drafts == []
