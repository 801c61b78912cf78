"""One training in a process of its own, which can be killed and dies with its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from projects import REPOSITORY

from components.shared.files import read_json, write_json
from components.shared.progress import EVENTS_VARIABLE
from components.training import process
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]


def write_job(job: TrainingJob) -> Path:
    file = Path(job.output) / "job.json"
    write_json(file, job.model_dump())
    return file


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], tuple[int, list[dict[str, Any]]]]:
    """Runs a job as the process does; returns the exit code and the events."""

    def call(job: Path) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
        monkeypatch.setattr(sys, "argv", ["process", str(job)])
        exit_code = process.main()
        return exit_code, [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]

    return call


def test_a_process_reports_its_epochs_as_events_and_leaves_a_result(
    run: Callable[[Path], tuple[int, list[dict[str, Any]]]], make_job: MakeJob, tmp_path: Path
) -> None:
    exit_code, events = run(write_job(make_job(tmp_path / "job", train={"loader_workers": 2})))
    assert exit_code == 0
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2]
    progress = [event for event in events if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"]
    result = read_json(tmp_path / "job" / "result.json")
    assert len(result["history"]) == 2
    assert result["scores"]["val_loss"] == min(report["val_loss"] for report in result["history"])
    assert (tmp_path / "job" / "model" / "model.safetensors").exists()


def test_a_mistake_is_reported_as_an_event_with_its_type(
    run: Callable[[Path], tuple[int, list[dict[str, Any]]]], make_job: MakeJob, tmp_path: Path
) -> None:
    job = write_job(make_job(tmp_path / "job", model={"weights": str(tmp_path / "missing.pth")}))
    exit_code, (event,) = run(job)
    assert exit_code == 2
    assert (event["event"], event["stage"], event["type"]) == ("failed", "train", "SettingsError")
    assert "missing.pth isn't there" in event["message"]
    assert not (tmp_path / "job" / "result.json").exists()


PARENT = """
import os, subprocess, sys, time
command = [sys.executable, "-m", "components.training.process", sys.argv[1]]
child = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "DARKROOM_PARENT_PIPE": "1"})
print(child.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_process_ends_when_its_parent_is_killed(make_job: MakeJob, tmp_path: Path) -> None:
    job = write_job(make_job(tmp_path / "job", train={"epochs": 100_000}))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(job)],
        cwd=REPOSITORY,
        env={**os.environ, EVENTS_VARIABLE: str(tmp_path / "events.jsonl")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        assert within(60, lambda: (tmp_path / "events.jsonl").exists()), "training never began"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert within(10, lambda: ended(child))
    finally:
        parent.kill()
        if not ended(child):
            child.kill()
    assert not (tmp_path / "job" / "result.json").exists()


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.05)
    return False


def ended(child: psutil.Process) -> bool:
    try:
        return child.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
