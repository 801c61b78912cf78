"""`darkroom init`: a project in any folder, whole or not at all, that works without the clone."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from projects import REPOSITORY

from components.records.data_facts import TYPICAL
from components.shared.errors import SettingsError
from flows.project.new_project import init_project
from flows.project.params import read_params
from flows.project.project import TEMPLATE, open_project
from flows.project.resolved_settings import resolved_settings


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_project_holds_settings_and_no_code(tmp_path: Path) -> None:
    made = init_project(tmp_path / "Grandma's photos: 1.0")
    folder = Path(made.folder)
    assert names(folder) == {"params.yaml", "dvc.yaml", "README.md", ".gitignore", ".dvcignore", ".git", ".dvc"}
    assert made.name == "Grandma-s photos- 1-0"
    assert read_params(folder / "params.yaml").register.name == made.name
    assert not any(str(tmp_path) in path.read_text() for path in folder.glob("*.*") if path.is_file())
    status = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True)
    assert status.returncode == 0
    assert open_project(folder).root == folder


def test_what_a_user_has_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise SystemExit('a user has a package of this name')")
    init_project(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", ["2024", "yes", "null", "a: b", "été", "_._", "写真"])
def test_any_folder_name_is_a_name_for_the_model(tmp_path: Path, name: str) -> None:
    made = init_project(tmp_path / name)
    assert read_params(Path(made.folder) / "params.yaml").register.name == made.name


def test_a_dvc_folder_of_the_user_stays_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / ".dvc" / "config"
    config.parent.mkdir()
    config.write_text("[core]\n    remote = mine\n")
    init_project(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).unlink()
    # As where the disk fills up in the middle.
    monkeypatch.setattr("flows.project.new_project._version", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        init_project(tmp_path)
    assert config.read_text() == "[core]\n    remote = mine\n"


def test_a_folder_of_a_git_repository_becomes_a_part_of_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    init_project(tmp_path / "model")
    assert not (tmp_path / "model" / ".git").exists()
    assert (tmp_path / "model" / ".dvc").is_dir()


def _project(folder: Path) -> Path:
    init_project(folder)
    return folder


def _inside_a_project(folder: Path) -> Path:
    return _project(folder) / "deeper"


def _classes(folder: Path) -> Path:
    for name in ("cat", "dog"):
        image(folder / name / "1.png")
    return folder


def _images(folder: Path) -> Path:
    image(folder / "1.png")
    return folder


def _file(folder: Path) -> Path:
    folder.mkdir()
    (folder / "file").touch()
    return folder / "file"


def _other_pipeline(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dvc.yaml").write_text("stages: {}\n")
    return folder


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_project, "is a Darkroom project already; go there and run `darkroom run`"),
        (_inside_a_project, "lies in the Darkroom project"),
        (_classes, "holds images; make the project beside them: darkroom init"),
        (_images, "holds images; make the project beside them: darkroom init"),
        (_file, "is a file; name a folder"),
        (_other_pipeline, "has a dvc.yaml of something else; name another folder"),
    ],
)
def test_other_folders_are_refused_and_stay_as_they_are(tmp_path: Path, make: object, sentence: str) -> None:
    assert callable(make)
    place = make(tmp_path / "place")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SettingsError, match=sentence):
        init_project(place)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_left_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool) -> None:
    place = tmp_path / "place"
    if exists:
        place.mkdir()
        (place / "notes.txt").touch()
    # As where DVC's own command fails.
    monkeypatch.setattr("flows.project.new_project.sys.executable", "/bin/false")
    with pytest.raises(Exception, match="DVC can't be set up"):
        init_project(place)
    assert (names(place) if place.exists() else None) == ({"notes.txt"} if exists else None)


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^/proc/place can't be made a project: "):
        init_project(Path("/proc/place"))


def test_new_projects_have_the_stages_of_the_repository() -> None:
    assert (TEMPLATE / "dvc.yaml").read_text() == (REPOSITORY / "dvc.yaml").read_text()


def test_settings_can_be_frozen(tmp_path: Path) -> None:
    project = open_project(_project(tmp_path / "place"))
    shown = resolved_settings(project, freeze=False)
    assert not shown.for_current_data
    assert {one.name for one in shown.settings} == read_params(project.params).automatic
    split = project.root / "data" / "split"
    split.mkdir(parents=True)
    TYPICAL.model_copy(update={"side_px": 28}).write(split / "facts.json")
    text = project.params.read_text()
    frozen = resolved_settings(project, freeze=True)
    params = read_params(project.params)
    assert params.automatic == frozenset()
    assert params.model.architecture == "plain"
    assert {one.name: one.value for one in frozen.settings}["preprocess.image_size_px"] == 32
    assert len(project.params.read_text().splitlines()) == len(text.splitlines())
