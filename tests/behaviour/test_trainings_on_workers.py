"""A search and a comparison whose models a worker trains: a real Prefect server, a real worker."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from projects import clean_environment, project_of_shapes, result_of, run_darkroom

from components.shared.errors import ServiceError
from components.shared.files import read_json
from flows.steps.remote_training import require_deployment

pytestmark = pytest.mark.timeout(600)

EPOCHS = 240
"""Enough for one to be asked to stop: the search looks every two seconds."""
SMALL = (
    "preprocess.image_size_px=16",
    "model.architecture=lenet5",
    f"train.epochs={EPOCHS}",
    "train.batch_size=32",
    "train.augment=false",
    "augment.copies=0",
    "register.name=shapes",
    # By the second rate nothing is learned; this seed draws each once, that one last.
    "tune.space={train.learning_rate: [0.004, 1.0e-12]}",
    "tune.metric=loss",
    "tune.trials=2",
    "tune.parallel_trials=1",
    "tune.pruner=median",
    "tune.patience_epochs=0",
    "tune.sampler=random",
    "tune.seed=3",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Path:
    return project_of_shapes(tmp_path_factory.mktemp("workers"), prefect_api, SMALL, each=20)


@pytest.fixture(scope="module")
def worker(folder: Path, prefect_api: str) -> Iterator["subprocess.Popen[bytes]"]:
    deployed = run_darkroom(folder, prefect_api, "deploy")
    assert deployed.returncode == 0, deployed.stderr
    with (folder / "worker.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", "worker", "--pool", "cpu"],
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


def test_a_worker_trains_the_trials_and_ends_one_that_lags_behind(
    folder: Path, prefect_api: str, worker: "subprocess.Popen[bytes]"
) -> None:
    before = (folder / "params.yaml").read_bytes()
    done = run_darkroom(folder, prefect_api, "tune", "--deployment", "train/cpu", "--json")
    assert worker.poll() is None, (folder / "worker.txt").read_text()
    result: dict[str, Any] = result_of(done)
    good, lagging = result["trials"]
    assert [trial["state"] for trial in (good, lagging)] == ["finished", "pruned"]
    assert good["score"] < lagging["score"]
    assert "falls behind earlier trials" in lagging["reason"]
    assert "training goes to train/cpu" in done.stderr
    assert f"train 1/{EPOCHS}" not in done.stderr, "trained here, not by the worker"
    jobs = {
        read_json(file)["train"]["learning_rate"]: file.parent
        for file in (folder / ".darkroom/work/train").glob("*/job.json")
    }
    assert len(read_json(jobs[0.004] / "history.json")) == EPOCHS
    assert len(read_json(jobs[1e-12] / "history.json")) < EPOCHS, "the worker was asked to stop, and did"
    assert (folder / "params.yaml").read_bytes() == before
    assert "Traceback" not in (folder / "worker.txt").read_text(), "a request to stop is no error"


def test_a_worker_trains_the_models_of_a_comparison(
    folder: Path, prefect_api: str, worker: "subprocess.Popen[bytes]"
) -> None:
    names = ("lenet5", "plain")
    settings = ("train.epochs=2", "finetune.epochs=0", "evaluate.bootstrap_resamples=20", "quantize.latency_runs=10")
    options = [word for setting in settings for word in ("--set", setting)]
    done = run_darkroom(folder, prefect_api, "compare", *names, "--deployment", "train/cpu", "--json", *options)
    assert worker.poll() is None, (folder / "worker.txt").read_text()
    result: dict[str, Any] = result_of(done)
    assert {model["name"] for model in result["models"]} == set(names)
    assert all(model["reason"] == "" and model["latency_ms"] > 0 for model in result["models"])
    assert done.stderr.count("training goes to train/cpu") == len(names)
    assert "train 1/2" not in done.stderr, "trained here, not by the worker"
    trained = [
        read_json(file)["model"]["architecture"] for file in (folder / ".darkroom/work/train").glob("*/job.json")
    ]
    assert set(names) <= set(trained)


@pytest.mark.parametrize("name", ["train/gup", "gpu"])
def test_an_unknown_deployment_is_named(prefect_api: str, name: str) -> None:
    with (
        temporary_settings({PREFECT_API_URL: prefect_api}),
        pytest.raises(ServiceError, match=f"there is no deployment {name}; "),
    ):
        require_deployment(name)
