"""A search whose trials a worker trains: a real Prefect server, a real worker, told to stop through MLflow."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from projects import clean_environment, new_project, write_shapes
from test_pipeline import result_of, run_darkroom

from components.files import read_json
from flows.params import override, read_params

pytestmark = pytest.mark.timeout(600)

SMALL = (
    "preprocess.image_size_px=16",
    "model.architecture=lenet5",
    "train.epochs=2",
    "train.batch_size=16",
    "augment.copies=0",
    "register.name=shapes",
    "tune.space={train.learning_rate: [0.002, 0.004, 0.008]}",
    "tune.trials=2",
    "tune.at_once=2",
    "tune.pruner=none",
    "tune.sampler=random",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Path:
    made = tmp_path_factory.mktemp("workers")
    images = write_shapes(made / "shapes", each=24)
    project = new_project(made / "project")
    override(project / "params.yaml", SMALL, check=lambda params: None)
    assert run_darkroom(project, prefect_api, "ingest", "--data", str(images)).returncode == 0
    return project


@pytest.fixture(scope="module")
def worker(folder: Path, prefect_api: str) -> Iterator["subprocess.Popen[bytes]"]:
    deployed = run_darkroom(folder, prefect_api, "deploy")
    assert deployed.returncode == 0, deployed.stderr
    with (folder / "worker.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "worker", "--pool", "cpu"],
            cwd=folder,
            env=clean_environment(PREFECT_API_URL=prefect_api),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield process
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.wait()


def test_a_worker_trains_the_trials_and_params_stay_as_they_are(
    folder: Path, prefect_api: str, worker: "subprocess.Popen[bytes]"
) -> None:
    before = (folder / "params.yaml").read_bytes()
    done = run_darkroom(folder, prefect_api, "tune", "--deployment", "train/cpu", "--json")
    assert worker.poll() is None, (folder / "worker.txt").read_text()
    result: dict[str, Any] = result_of(done)
    assert [trial["state"] for trial in result["trials"]] == ["finished"] * 2
    assert all(0 <= trial["score"] <= 1 for trial in result["trials"])
    assert "training goes to train/cpu" in done.stderr
    assert "train 1/2" not in done.stderr, "trained here, not by the worker"
    trained = {
        read_json(file)["train"]["learning_rate"] for file in (folder / ".darkroom/work/train").glob("*/job.json")
    }
    assert trained == {trial["values"]["train.learning_rate"] for trial in result["trials"]}
    assert (folder / "params.yaml").read_bytes() == before
    assert read_params(folder / "params.yaml").train.learning_rate not in trained


def test_an_unknown_deployment_is_named(folder: Path, prefect_api: str) -> None:
    # Another seed, so that there is something left to train.
    done = run_darkroom(folder, prefect_api, "tune", "--deployment", "train/gup", "--set", "train.seed=9")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "darkroom: there is no deployment train/gup; register it with `darkroom deploy`"
    )
