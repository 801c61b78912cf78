"""A registry whose content somebody altered: nothing of it runs, and no other file than the promoted one is opened."""

import base64
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from colour_models import SIDE, colour_model
from PIL import Image
from projects import REPOSITORY, isolate, stored_folder
from registered import promoted_version
from starlette.testclient import TestClient

from components.serving.prediction_records import PredictionOptions
from components.shared.errors import DarkroomError, ServiceError
from components.shared.files import sha256_of_file
from flows.project.project import open_project
from flows.serving.predict import open_model, predict_files
from flows.serving.serve import open_application
from flows.tracking import registry, runs
from flows.tracking.packaging import Package, write_package

_MARK = "executed.txt"


class _Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._mark = folder / _MARK

    def __reduce__(self) -> Any:
        return Path.touch, (self._mark,)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("package")
    return write_package(colour_model(folder / "model_int8.onnx"), folder / "package", run_id="r" * 32)


@pytest.fixture
def project(tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a champion and an image, and the working directory of the test."""
    isolate(monkeypatch)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    promoted_version(tmp_path, package)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / "red.png")
    return tmp_path


def stored(number: str = "1") -> Path:
    tracking = runs.open_tracking(open_project(), "digits")
    return stored_folder(tracking, registry.get_version(tracking, "digits", number))


def predicted_by_server(model: str | None = None) -> Any:
    name, app = open_application(model)
    image = base64.b64encode(Path("red.png").read_bytes()).decode()
    answer = TestClient(app).post("/invocations", json={"dataframe_split": {"columns": ["image"], "data": [[image]]}})
    assert answer.status_code == 200, answer.text
    assert TestClient(app).get("/model").json()["name"] == name
    return answer.json()["predictions"][0]


def predicted(model: str | None = None) -> str:
    predict_files(["red.png"], out=Path("p.jsonl"), model=model, options=PredictionOptions(), overwrite=True)
    return Path("p.jsonl").read_text()


def _plant_code(folder: Path, project: Path) -> None:
    line = f"open({str(project / _MARK)!r}, 'w').close()\n"
    for file in [*(folder / "code").rglob("*.py"), *folder.glob("*.py")]:
        file.write_text(line + file.read_text())
    (folder / "code" / "numpy.py").write_text(line)


def _change_loader(folder: Path, project: Path) -> None:
    (folder / "code" / "planted.py").write_text(f"open({str(project / _MARK)!r}, 'w').close()\n")
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["python_function"] |= {"loader_module": "planted", "code": "code"}
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


def _plant_pickle(folder: Path, project: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps(_Planted(project)))
    described = yaml.safe_load((folder / "MLmodel").read_text())
    del described["flavors"]["python_function"]["model_code_path"]
    described["flavors"]["python_function"] |= {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "python_model.pkl",
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


_ALTERATIONS: dict[str, Callable[[Path, Path], None]] = {
    "code": _plant_code,
    "loader": _change_loader,
    "pickle": _plant_pickle,
}


@pytest.mark.parametrize("alteration", _ALTERATIONS)
def test_code_that_was_planted_in_the_package_never_runs(project: Path, alteration: str) -> None:
    expected = predicted_by_server()
    assert (expected["label"], expected["model"][:7]) == ("red", "sha256:")
    _ALTERATIONS[alteration](stored(), project)
    shutil.rmtree(open_project().work)
    assert predicted_by_server() == expected
    assert '"red"' in predicted()
    tracking = runs.open_tracking(open_project(), "digits")
    version = registry.get_version(tracking, "digits", "1")
    with pytest.raises(ServiceError, match="isn't the one that was checked"):
        registry.require_package(tracking, version)
    assert not (project / _MARK).exists()


def test_another_file_in_the_place_of_the_model_is_never_opened(project: Path, tmp_path: Path) -> None:
    other = colour_model(tmp_path / "other.onnx", red_bias=1.0)
    shutil.copyfile(other, stored() / "artifacts" / "model_int8.onnx")
    for ask in (open_application, open_model, predicted):
        shutil.rmtree(open_project().work, ignore_errors=True)
        with pytest.raises(ServiceError, match="isn't the one that was registered: its SHA-256 differs"):
            ask(None)


def test_a_file_that_was_changed_after_it_was_fetched_is_fetched_again(project: Path, tmp_path: Path) -> None:
    expected = predicted_by_server()
    (fetched,) = open_project().work.glob("models/*/model.onnx")
    shutil.copyfile(colour_model(tmp_path / "other.onnx", red_bias=1.0), fetched)
    assert predicted_by_server() == expected


def test_another_digest_beside_another_file_is_not_what_the_ledger_promoted(project: Path, tmp_path: Path) -> None:
    other = colour_model(tmp_path / "other.onnx", red_bias=1.0)
    shutil.copyfile(other, stored() / "artifacts" / "model_int8.onnx")
    tracking = runs.open_tracking(open_project(), "digits")
    version = registry.get_version(tracking, "digits", "1")
    registry.annotate(tracking, version, tags={"sha256": sha256_of_file(other)})
    for ask in (open_application, open_model, predicted):
        with pytest.raises(ServiceError, match="is version 1, but by the ledger no version was promoted"):
            ask(None)


@pytest.mark.parametrize("sha256", ["", "../../../elsewhere", "F" * 64])
def test_a_digest_that_is_none_is_refused(project: Path, sha256: str) -> None:
    tracking = runs.open_tracking(open_project(), "digits")
    registry.annotate(tracking, registry.get_version(tracking, "digits", "1"), tags={"sha256": sha256})
    with pytest.raises(DarkroomError, match=r"has no SHA-256|by the ledger"):
        open_model("digits/1")
    assert not (project / "elsewhere").exists()


def test_an_alias_that_somebody_moved_makes_no_champion(
    project: Path, package: Package, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = runs.open_tracking(open_project(), "digits")
    assert promoted_version(project, package, promoted=False).number == "2"
    tracking.client.set_registered_model_alias("digits", "champion", "2")
    for model in (None, "models:/digits@champion"):
        for ask in (open_application, open_model, predicted):
            with pytest.raises(ServiceError, match="is version 2, but by the ledger version 1 serves"):
                ask(model)
    # Who names the number gets it, with a warning.
    assert predicted_by_server("digits/2")["label"] == "red"
    assert "models:/digits/2 wasn't promoted: the gate's verdict is undecided" in caplog.text
