"""A search and a comparison as a person runs them: killed and resumed, in MLflow, and on workers."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from projects import QUICK, clean_environment, isolate, project_of_shapes, result_of, run_darkroom

from components.shared.errors import SettingsError
from flows.experiments.compare import check_models
from flows.project.params import read_params
from flows.project.project import open_project
from flows.session.session import Session
from flows.steps.prepare import Prepare
from flows.steps.quantize import Quantize
from flows.steps.register import Register
from flows.steps.step import Results
from flows.steps.train import Train

pytestmark = pytest.mark.timeout(600)

SMALL = (
    *QUICK,
    "preprocess.image_size_px=16",
    "model.architecture=lenet5",
    "train.epochs=2",
    "train.batch_size=16",
    "finetune.epochs=0",
    "register.name=shapes",
    # No training survives the second rate. This seed draws each of the three once, that one first.
    "tune.space={train.learning_rate: [0.002, 1.0e+30, 0.004]}",
    "tune.sampler=random",
    "tune.pruner=none",
    "tune.trials=3",
    "tune.seed=10",
)


LOGGED_LIVE = {
    *("train_loss", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate"),
    *("images_per_second", "seconds", "seconds_left", "gpu_memory_gib"),
}


@dataclass(frozen=True)
class Searched:
    said_before_the_kill: str
    result: dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Path:
    return project_of_shapes(tmp_path_factory.mktemp("search"), prefect_api, SMALL, each=24)


@pytest.fixture(scope="module")
def searched(folder: Path, prefect_api: str) -> Searched:
    """Killed in the middle of the second trial, then called again."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "tune"],
        cwd=folder,
        env=clean_environment(PREFECT_API_URL=prefect_api),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("trial 2: "):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    return Searched(said, result_of(run_darkroom(folder, prefect_api, "tune", "--apply", "--json")))


@pytest.fixture(scope="module")
def session(folder: Path, searched: Searched) -> Iterator[Session]:
    del searched
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        project = open_project(folder)
        yield Session(project, read_params(project.params))


def test_a_killed_search_resumes_with_the_interrupted_trial(searched: Searched) -> None:
    trials = searched.result["trials"]
    assert [trial["number"] for trial in trials] == [1, 2, 3]
    said = re.findall(r"^trial \d: train.learning_rate (.+)$", searched.said_before_the_kill, re.MULTILINE)
    assert [float(value) for value in said] == [trial["values"]["train.learning_rate"] for trial in trials[:2]]


def test_a_failed_trial_is_recorded_with_its_reason_and_the_search_continues(searched: Searched) -> None:
    failed = [trial for trial in searched.result["trials"] if trial["values"]["train.learning_rate"] > 1]
    assert failed
    assert searched.result["trials"][-1]["state"] == "finished"
    for trial in failed:
        assert trial["state"] == "failed"
        assert "lower train.learning_rate" in trial["reason"]


def test_apply_writes_the_best_values_into_params(searched: Searched, folder: Path) -> None:
    best = searched.result["best"]
    assert best["score"] == max(trial["score"] for trial in searched.result["trials"] if trial["state"] == "finished")
    assert read_params(folder / "params.yaml").train.learning_rate == best["values"]["train.learning_rate"]


def test_each_trial_is_a_child_run_with_its_state(searched: Searched, session: Session) -> None:
    above = searched.result["run_id"]
    children = session.tracking.client.search_runs(
        [session.tracking.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{above}'"
    )
    by_number = {run.data.tags["darkroom.trial"]: run for run in children}
    assert sorted(by_number) == ["1", "2", "3"]
    statuses = {"finished": "FINISHED", "failed": "FAILED"}
    for trial in searched.result["trials"]:
        run = by_number[str(trial["number"])]
        assert run.info.status == statuses[trial["state"]]
        assert float(run.data.params.get("train.learning_rate")) == trial["values"]["train.learning_rate"]
        if trial["state"] == "finished":
            assert run.data.metrics["accuracy"] == pytest.approx(trial["score"])
            assert set(run.data.metrics) >= LOGGED_LIVE
    table = session.tracking.client.download_artifacts(above, "trials.json")
    assert json.loads(Path(table).read_text())["columns"][:3] == ["trial", "state", "accuracy"]


@pytest.fixture(scope="module")
def registered(session: Session) -> str:
    """The address of a version of Lenet-5, as the search left it."""
    prepared = Prepare().run(session, Results())
    exported = Quantize().run(session, Results(prepared, Train().run(session, Results(prepared))))
    return f"models:/shapes/{Register().run(session, Results(prepared, exported)).version}"


def test_a_comparison_measures_each_model_on_the_same_images(
    registered: str, session: Session, folder: Path, prefect_api: str
) -> None:
    """Lenet-5 was trained by the search with these very params."""
    names = ("lenet5", "plain", registered)
    done = run_darkroom(folder, prefect_api, "compare", *names, "--out", "tradeoffs.svg", "--json")
    result = result_of(done)
    assert re.search(r"train +reused ", done.stderr)
    by_name = {line["name"]: line for line in result["models"]}
    assert sorted(by_name) == sorted(names)
    for same in ("run_id", "validation_accuracy", "accuracy", "macro_f1", "bytes", "training_seconds"):
        assert by_name[registered][same] == by_name["lenet5"][same], "the version's own file, on the same images"
    assert result["chosen"] == max(result["models"], key=lambda line: line["validation_accuracy"])["name"]
    assert result["chosen"] == result["models"][0]["name"]
    for line in result["models"]:
        assert line["latency_ms"] > 0
        assert line["bytes"] > 10_000
        assert line["training_seconds"] > 0
        assert (line["p_corrected"] is None) == (line["name"] == result["chosen"])
        for score in ("validation_accuracy", "accuracy", "macro_f1"):
            low, high = line[f"{score}_interval"]
            assert low <= line[score] <= high
    assert any(line["non_dominated"] for line in result["models"])
    assert (folder / "tradeoffs.svg").read_bytes().startswith(b"<?xml")
    kept = {one.path for one in session.tracking.client.list_artifacts(result["run_id"])}
    assert {"comparison.json", "figures"} <= kept


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["lenet5", "resnet81"], "resnet81 is unknown; did you mean resnet18?"),
        (["lenet5", "models:/shapes"], "models:/shapes: should read NAME@ALIAS or NAME/VERSION"),
        (["lenet5", "shapes/7"], "shapes has no version 7 in the registry"),
        (["lenet5", "models:/shapes/7"], "shapes has no version 7 in the registry; `darkroom models` lists"),
        (["lenet5", "lenet5"], "lenet5 alone can't be compared; name two models or more"),
    ],
)
def test_a_name_that_can_not_be_compared_is_named(session: Session, names: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_models(session, names)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
