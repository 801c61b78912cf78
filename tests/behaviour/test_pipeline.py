"""The end-to-end pipeline in a project like a fresh clone: real DVC, Prefect, MLflow on SQLite, real images.

The tests build on each other in order, as a user's days do: a first model, the same again, a change, a worse
challenger, a rollback.
"""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import QUICK, new_project, result_of, run_darkroom, write_shapes

SMALL = (
    *QUICK,
    "preprocess.image_size_px=16",
    "model.architecture=plain",
    "train.epochs=8",
    "train.batch_size=8",
    "finetune.epochs=1",
    "register.name=shapes",
    "promote.floors={accuracy: 0.5, macro_f1: 0.5}",
)
STEPS = ["ingest", "validate", "split", "augment", "train", "finetune", "evaluate", "quantize", "register", "promote"]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_project(tmp_path_factory.mktemp("pipeline") / "project")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shapes(tmp_path_factory.mktemp("images") / "shapes", each=40)
    (folder / "circle" / "cut.png").write_bytes((folder / "circle" / "000.png").read_bytes()[:100])
    return folder


@pytest.fixture(scope="module")
def call(folder: Path, prefect_api: str) -> Call:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_darkroom(folder, prefect_api, *arguments)

    return command


@pytest.fixture(scope="module")
def first(call: Call, images: Path) -> dict[str, Any]:
    """The first run's result."""
    settings = [text for value in SMALL for text in ("--set", value)]
    return result_of(call("run", "--data", str(images), *settings, "--json"))


def states(result: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["state"] for step in result["steps"]}


def test_a_first_run_promotes_the_model_that_passes_the_floors(first: dict[str, Any], call: Call) -> None:
    assert states(first) == dict.fromkeys(STEPS, "ran")
    assert first["promoted"] is True
    served = first["metrics"][f"onnx_{first['served']}"]
    assert served["accuracy"] >= 0.5
    assert first["bytes"] > 0
    assert first["latency_ms"] > 0
    models = result_of(call("models", "--json"))
    assert models["champion"] == "1"


def test_every_image_is_accounted_for(first: dict[str, Any], folder: Path) -> None:
    report = json.loads((folder / "data/reports/validation.json").read_text())
    assert report["num_images"] == 120
    assert [row["path"] for row in report["quarantined"]] == ["circle/cut.png"]
    proof = json.loads((folder / "data/split/leakage.json").read_text())
    assert sum(proof["images"].values()) == 120
    assert proof["split_digest"] == first["split_digest"]


def test_the_same_run_again_has_nothing_to_do(first: dict[str, Any], call: Call) -> None:
    done = call("run")
    assert done.returncode == 0, done.stderr
    assert "every step was reused" in done.stdout
    again = result_of(call("run", "--json"))
    assert states(again) == dict.fromkeys(STEPS, "reused")
    assert {key: again[key] for key in ("run_id", "version", "promoted")} == {
        key: first[key] for key in ("run_id", "version", "promoted")
    }


def test_dvc_by_hand_finds_nothing_to_do(first: dict[str, Any], folder: Path) -> None:
    del first
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], cwd=folder, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"code": ["always changed"]}


def test_a_change_of_the_gate_repeats_the_decision_alone(first: dict[str, Any], call: Call) -> None:
    del first
    result = result_of(call("run", "--set", "promote.floors.accuracy=0.4", "--json"))
    assert [name for name, state in states(result).items() if state == "ran"] == ["promote"]
    assert result["promoted"] is True


def test_a_worse_challenger_is_refused_and_the_champion_stays(first: dict[str, Any], call: Call) -> None:
    worse = ("--set", "train.epochs=1", "--set", "train.learning_rate=0.0000001", "--set", "finetune.epochs=0")
    floors = ("--set", "promote.floors={accuracy: 0.001, macro_f1: 0.001}")
    result = result_of(call("run", *worse, *floors, "--json"))
    assert result["promoted"] is False
    assert any("against champion v1" in reason for reason in result["reasons"])
    ran = [name for name, state in states(result).items() if state == "ran"]
    assert ran[0] == "train"
    models = result_of(call("models", "--json"))
    assert models["champion"] == "1"


def test_without_a_floor_nothing_is_promoted(first: dict[str, Any], call: Call) -> None:
    del first
    none = ("--set", "promote.floors=null")
    verdict = result_of(call("promote", "--version", "1", *none, "--json"))
    assert verdict["promoted"] is False
    assert "no floor is configured" in verdict["reasons"][0]


def test_rollback_goes_one_champion_back(first: dict[str, Any], call: Call) -> None:
    del first
    lenient = (
        "promote.floors={accuracy: 0.001}",
        "promote.max_drop_against_champion={accuracy: 1.0, macro_f1: 1.0}",
    )
    settings = [text for value in lenient for text in ("--set", value)]
    second = result_of(call("promote", "--version", "2", *settings, "--json"))
    assert second["promoted"] is True, second["reasons"]
    models = result_of(call("models", "--json"))
    assert (models["champion"], models["previous"]) == ("2", "1")
    back = result_of(call("rollback", "--reason", "a test", "--json"))
    assert back == {"champion": "1", "was": "2"}
    models = result_of(call("models", "--json"))
    assert (models["champion"], models["previous"]) == ("1", None)
    refused = call("rollback")
    assert refused.returncode == 2
    assert "no earlier champion" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_predict_gives_a_row_an_image(first: dict[str, Any], call: Call, images: Path, tmp_path: Path) -> None:
    del first
    out = tmp_path / "labels.jsonl"
    done = call("predict", str(images / "circle"), "--out", str(out))
    # One of them can't be read.
    assert done.returncode == 3, done.stderr
    assert "unreadable: " in done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 41
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["cut.png"]
    right = [row for row in rows if row["label"] == "circle"]
    assert len(right) >= 20
    assert len({row["model"] for row in rows}) == 1


def test_the_registered_version_answers_as_an_mlflow_model(first: dict[str, Any], folder: Path, images: Path) -> None:
    content = base64.b64encode((images / "square" / "001.png").read_bytes()).decode()
    script = (
        "import json, mlflow, pandas, sys;"
        f"mlflow.set_tracking_uri('sqlite:///{folder}/.darkroom/mlflow/mlflow.db');"
        "model = mlflow.pyfunc.load_model('models:/shapes@champion');"
        "print(json.dumps(model.predict(pandas.DataFrame({'image': [sys.argv[1]]}))))"
    )
    done = subprocess.run([sys.executable, "-c", script, content], cwd=images, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert answer[0]["label"] in ("circle", "square", "stripes")
    assert 0 < answer[0]["probability"] <= 1


def test_in_a_clone_that_lost_its_cache_the_message_says_what_to_do(
    first: dict[str, Any], folder: Path, call: Call
) -> None:
    del first
    shutil.rmtree(folder / ".dvc" / "cache")
    shutil.rmtree(folder / "data" / "raw")
    done = call("run")
    assert done.returncode == 3
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr
