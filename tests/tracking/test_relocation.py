"""A project that is moved, renamed or copied keeps its models, and never reads or writes where it was."""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from colour_models import colour_model
from projects import REPOSITORY
from registered import promoted_version

from components.shared.errors import DarkroomError
from flows.project.project import HOME_VARIABLE, Project, open_project
from flows.serving.predict import open_version
from flows.tracking import registry, runs
from flows.tracking.packaging import Package, write_package

_NAME = "digits"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("package")
    return write_package(colour_model(folder / "model_int8.onnx"), folder / "package", run_id="r" * 32)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (HOME_VARIABLE, "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def original(tmp_path: Path, package: Package) -> Path:
    """A project with a champion, beside which a copy of nearly the same name will stand."""
    folder = tmp_path / "my project"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    promoted_version(folder, package)
    return folder


def champion_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The served file, fetched from the store, and the run's own file."""
    monkeypatch.chdir(folder)
    shutil.rmtree(open_project().work, ignore_errors=True)
    version, file = open_version(None)
    tracking = runs.open_tracking(open_project(), _NAME)
    registry.require_package(tracking, version)
    stored = runs.tags_of(tracking, version.run_id)
    assert stored is not None
    assert [one.path for one in tracking.client.list_artifacts(version.run_id, "model")] == ["model/model_int8.onnx"]
    return file


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(file.relative_to(folder)): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def addresses(project: Project) -> str:
    with closing(sqlite3.connect(project.home / "mlflow" / "mlflow.db")) as database:
        return "\n".join(database.iterdump())


def _copy(original: Path) -> Path:
    target = original.with_name("my project 2")
    subprocess.run(["cp", "-a", original, target], check=True)
    return target


def _move(original: Path) -> Path:
    return original.rename(original.with_name("renamed"))


def _move_up(original: Path) -> Path:
    deeper = original.with_name("a") / "b" / "c"
    deeper.parent.mkdir(parents=True)
    return original.rename(deeper)


_WAYS: dict[str, Callable[[Path], Path]] = {"copied": _copy, "moved": _move, "moved deeper": _move_up}


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "older than the note"])
@pytest.mark.parametrize("way", _WAYS)
def test_the_champion_is_found_in_the_new_place(
    original: Path, way: str, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not noted:
        (original / ".darkroom/mlflow/folder.json").unlink()
    there = _WAYS[way](original)
    if original.exists():
        shutil.rmtree(original)
    assert champion_file(there, monkeypatch).is_relative_to(there)
    assert original.as_uri() + "/" not in addresses(open_project(there))
    # And once more, back again.
    there.rename(original)
    assert champion_file(original, monkeypatch).is_relative_to(original)


def test_a_copy_writes_nothing_in_the_original_and_both_predict(
    original: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_file(original, monkeypatch)
    before = contents(original)
    there = _copy(original)
    assert promoted_version(there, package).number == "2"
    champion_file(there, monkeypatch)
    assert contents(original) == before
    assert str(original) + "/" not in addresses(open_project(there))
    assert open_version(None)[0].number == "2"
    champion_file(original, monkeypatch)
    assert open_version(None)[0].number == "1"
    # The original is where it was, so nothing was rewritten there.
    assert str(there) not in addresses(open_project(original))


def test_a_link_to_the_project_rewrites_nothing(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(original)
    before = addresses(open_project(original))
    champion_file(tmp_path / "link", monkeypatch)
    # As a mounted folder, whose other name can't be resolved.
    linked = Project(tmp_path / "link", tmp_path / "link" / ".darkroom")
    assert runs.existing_tracking(linked, _NAME) is not None
    assert addresses(open_project(original)) == before


def test_what_darkroom_keeps_may_move_alone(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (original / ".darkroom").rename(tmp_path / "kept")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "kept"))
    assert champion_file(original, monkeypatch).is_relative_to(tmp_path / "kept")


def test_what_a_copy_lacks_is_reported_as_missing(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = _copy(original)
    shutil.rmtree(there / ".darkroom/mlflow/artifacts")
    monkeypatch.chdir(there)
    tracking = runs.open_tracking(open_project(), _NAME)
    version = registry.get_version(tracking, _NAME, "1")
    for ask in (registry.fetch_model, registry.require_package):
        with pytest.raises(registry.NotStored, match=r"can't be fetched|is missing from the artifact store"):
            ask(tracking, version)


def test_a_database_that_can_not_be_rewritten_is_an_error_with_a_remedy(original: Path) -> None:
    there = _copy(original)
    (there / ".darkroom/mlflow/mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(DarkroomError, match=r"was moved or copied, and .* can't be rewritten"):
        runs.open_tracking(open_project(there), _NAME)
