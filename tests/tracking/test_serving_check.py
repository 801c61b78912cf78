"""The package that ships is what a clean process is given, and what the registry then holds."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_models import SIDE, colour_model
from PIL import Image
from projects import isolate, stored_folder

from components.serving.isolated_process import serving_packages
from components.shared.errors import ServiceError
from flows.project.project import Project
from flows.tracking import registry, runs, serving_check
from flows.tracking.packaging import Package, package_sha256, write_package
from flows.tracking.runs import Tracking
from flows.tracking.serving_check import Reply, ServingCheck, check_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("package")
    return write_package(colour_model(folder / "model_int8.onnx"), folder / "package", run_id="r" * 32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    file = tmp_path_factory.mktemp("photos") / "photo.png"
    contents = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE + 9, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(file)
        contents.append(file.read_bytes())
    return contents


@pytest.fixture(scope="module")
def checked(package: Package, photos: list[bytes]) -> ServingCheck:
    return check_package(package, photos)


@pytest.fixture
def copied(package: Package, tmp_path: Path) -> Package:
    """A package that a test may break."""
    folder = tmp_path / "package"
    shutil.copytree(package.folder, folder)
    return replace(package, folder=folder, model_file=folder / package.model_file.relative_to(package.folder))


def failed(check: ServingCheck) -> dict[str, str]:
    return {one.name: one.value for one in check.checks if not one.passed}


LOADS = "loads with only its requirements and its own code"


def test_the_package_answers_as_recorded_and_refuses_what_is_malformed(package: Package, checked: ServingCheck) -> None:
    assert checked.failures == ""
    assert checked.passed
    names = [check.name for check in checked.checks]
    assert LOADS in names
    assert "predictions for 3 recorded images" in names
    assert len([name for name in names if name.startswith("refuses ")]) == 9
    # The check must not change the package.
    assert package_sha256(package.folder) == checked.package_sha256 == package.sha256
    assert list(package.folder.rglob("__pycache__")) == []


def test_the_package_holds_what_serving_needs_and_nothing_else(package: Package) -> None:
    pinned = dict(line.split("==") for line in package.requirements)
    assert pinned == {name: version(name) for name in ("mlflow", "pandas", *serving_packages())}
    assert not {"torch", "prefect", "dvc", "scikit-learn", "onnx"} & set(pinned)
    packaged = {file.relative_to(package.folder / "code").parts[1] for file in (package.folder / "code").rglob("*.py")}
    assert {"serving", "data", "task"} <= packaged
    assert not packaged & {"training", "models", "export", "evaluation", "reporting", "promotion"}
    assert f"run_id: {'r' * 32}" in (package.folder / "MLmodel").read_text()


def without_a_module(package: Package) -> None:
    (package.folder / "code" / "components" / "task" / "task_types.py").unlink()


def in_need_of_training(package: Package) -> None:
    prepend(package.folder / "image_scorer.py", "import torch")


def without_a_requirement(package: Package) -> None:
    file = package.folder / "requirements.txt"
    file.write_text("\n".join(line for line in package.requirements if not line.startswith("onnxruntime")))


def prepend(file: Path, line: str) -> None:
    file.write_text(f"{line}\n{file.read_text()}")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_a_module, "components.task.task_types"),
        (in_need_of_training, "serving may not import torch"),
        (without_a_requirement, "serving may not import onnxruntime"),
    ],
)
def test_a_package_that_lacks_something_does_not_load(
    copied: Package, photos: list[bytes], damage: Callable[[Package], None], said: str
) -> None:
    damage(copied)
    assert said in failed(check_package(copied, photos))[LOADS]


def test_a_package_that_answers_otherwise_or_takes_anything_fails(copied: Package, photos: list[bytes]) -> None:
    """Its ONNX file is the right one, so only requests to the package itself can show it."""
    records = copied.folder / "code" / "components" / "serving" / "prediction_records.py"
    records.write_text(records.read_text().replace("round(value, _DECIMALS)", "round(value, 1)"))
    scoring = copied.folder / "image_scorer.py"
    scoring.write_text(scoring.read_text().replace("if row.error is not None:", "if row.error == 'never':"))
    found = failed(check_package(copied, photos))
    assert found.pop("predictions for 3 recorded images").startswith("differ by ")
    accepted = ("an empty file", "a text", "half a PNG", "text that is no base64", "a number")
    assert found == {f"refuses {what}": "accepted" for what in accepted}


def reply(status: int, said: Any) -> Reply:
    return Reply(status, json.dumps(said), seconds=0.1)


KNOWN = {"label": "cat", "probability": 0.9, "ood_score": -200.0}


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (reply(200, {"predictions": [{**KNOWN, "model": "m"}]}), True),
        (reply(200, {"predictions": [{**KNOWN, "probability": 0.9009, "ood_score": -200.1}]}), True),
        (reply(200, {"predictions": [{**KNOWN, "probability": 0.898}]}), False),
        (reply(200, {"predictions": [{**KNOWN, "label": "dog"}]}), False),
        (reply(200, {"predictions": [{"label": "cat"}]}), False),
        (reply(400, {"message": "no"}), False),
    ],
)
def test_an_answer_is_as_recorded_within_a_thousandth(said: Reply, passed: bool) -> None:
    assert serving_check._compare([KNOWN], [said]).passed is passed


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (reply(400, {"message": "image 1: is no base64"}), "refused"),
        (reply(415, {"message": "no JSON"}), "refused"),
        (reply(200, {"predictions": []}), "accepted"),
        (reply(400, {"message": "unexpected", "stack_trace": "Traceback"}), "failed"),
        (reply(500, {"message": "KeyError"}), "failed"),
    ],
)
def test_a_refusal_is_a_message_and_no_failure(said: Reply, value: str) -> None:
    check = serving_check._refused("a text", said)
    assert (check.value, check.passed) == (value, value == "refused")


def test_an_answer_that_is_late_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving_check._in_time([reply(200, {})]).passed
    monkeypatch.setattr(serving_check, "_MAX_RESPONSE_SECONDS", 0.05)
    assert not serving_check._in_time([reply(200, {})]).passed


def test_a_process_that_does_not_end_fails(
    package: Package, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_check, "_PROCESS_TIMEOUT_SECONDS", 0.01)
    assert failed(check_package(package, photos)) == {LOADS: "no, it did not end within 0.01 s"}


def test_a_requirement_of_another_version_fails(copied: Package) -> None:
    file = copied.folder / "requirements.txt"
    file.write_text(file.read_text().replace("pillow==", "pillow>=").replace("pandas==", "pandas==0"))
    pinned = serving_check._pinned(copied)
    assert not pinned.passed
    assert pinned.value.startswith("all but pillow>=")
    assert ", pandas==0" in pinned.value


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        folder = tmp_path_factory.mktemp("project")
        yield runs.open_tracking(Project(folder, folder / ".darkroom"), "colours")


def test_the_checked_package_is_the_registered_one(tracking: Tracking, package: Package, checked: ServingCheck) -> None:
    run_id = runs.begin(tracking, "train", "mark", name="colours", tags={})
    found = registry.register(tracking, "colours", run_id=run_id, package=package, tags={}, description="")
    assert found.tags[registry.PACKAGE_TAG] == checked.package_sha256
    assert registry.require_package(tracking, found) == checked.package_sha256
    stored = stored_folder(tracking, found)
    assert {file.name for file in stored.iterdir()} == {file.name for file in package.folder.iterdir()}
    # Loading it creates files that are no part of it.
    (stored / "code" / "__pycache__").mkdir()
    (stored / "code" / "__pycache__" / "x.pyc").touch()
    registry.require_package(tracking, found)
    prepend(stored / "image_scorer.py", "# changed")
    with pytest.raises(ServiceError, match=r"version 1 isn't the one that was checked: its SHA-256 differs; register"):
        registry.require_package(tracking, found)


def test_a_package_that_changed_after_the_check_is_refused(tracking: Tracking, copied: Package) -> None:
    run_id = runs.begin(tracking, "train", "another mark", name="colours", tags={})
    prepend(copied.folder / "image_scorer.py", "# changed")
    with pytest.raises(ServiceError, match=r"package of model_int8\.onnx isn't the one that was checked"):
        registry.register(tracking, "late", run_id=run_id, package=copied, tags={}, description="")
    assert registry.versions(tracking, "late") == []
