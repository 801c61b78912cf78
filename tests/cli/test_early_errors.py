"""Mistakes on the command line: reported before a server starts, with params.yaml as it was."""

import shutil
import subprocess
from pathlib import Path

import pytest
from projects import REPOSITORY, isolate
from typer.testing import CliRunner

import flows.servers.ephemeral
from components.shared.errors import DataError
from components.shared.plural import counted
from flows.cli.main import app
from flows.project.project import open_project
from flows.session.preflight import resolve_params, restore_params_on_error


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which no server may start, and the working directory of the test."""
    isolate(monkeypatch)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def started(project: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr(flows.servers.ephemeral, "prepare_prefect", started)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "exit_code", "sentence"),
    [
        ("run --data nowhere", 3, "nowhere: no such folder or table; give --data an existing one"),
        ("ingest --data params.yaml", 3, "params.yaml: is neither a folder nor a table"),
        ("run --data torchvision:CIFAR11", 3, "torchvision:CIFAR11: unknown; did you mean CIFAR10?"),
        ("run --data ../pets.csv", 3, "pets.csv: columns path and label are missing; rename 'filename' to path and"),
        ("train --set train.epoch=9", 2, "params.yaml: train.epoch: unknown; did you mean epochs?"),
        ("tune --set train.epochs=many", 2, "params.yaml: train.epochs: is 'many', should be a valid integer"),
        ("evaluate --set model.weights=gone.pth", 2, "params.yaml: model.weights: gone.pth isn't there"),
        ("train --set model.weights=models:/a@b", 2, "params.yaml: model.weights: a has no version yet"),
        ("promote --version digits@chalenger", 2, "digits has no version yet; `darkroom run` makes one"),
        ("ensemble digits/1 2", 2, "digits has no version yet; `darkroom run` makes one"),
        ("cross-validate", 2, "params.yaml: split.folds: is 0, so that there are no folds; --set split.folds=5 makes"),
        ("compare plain plian", 2, "plian is unknown; did you mean plain?"),
    ],
)
def test_a_mistake_is_reported_before_anything_starts(folder: Path, words: str, exit_code: int, sentence: str) -> None:
    (folder.parent / "pets.csv").write_text("filename,class\na.png,cat\n")
    before = (folder / "params.yaml").read_bytes()
    answer = CliRunner().invoke(app, [*words.split(), "--set", "train.batch_size=33"])
    assert answer.exit_code == exit_code, answer.output
    assert answer.stderr.startswith(f"darkroom: {sentence}")
    assert answer.stderr.count("\n") == 1
    assert (folder / "params.yaml").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["dvc.yaml", "params.yaml"]


@pytest.mark.parametrize(
    ("git", "dvc", "sentence"),
    [
        (False, None, "is in no DVC project; type `dvc init` (outside of git `dvc init --no-scm`)"),
        (True, None, "is in no DVC project; type `dvc init` (outside of git `dvc init --no-scm`)"),
        (False, "", "is in no git repository; type `git init`"),
        (False, "no section", "config can't be read"),
        (True, "", None),
        (False, "[core]\n    no_scm = true\n", None),
    ],
)
@pytest.mark.parametrize(
    "words", ["run", "ingest --data .", "prepare", "train", "tune", "promote", "compare plain lenet5"]
)
def test_a_folder_that_dvc_can_not_work_in_is_reported_before_anything_starts(
    folder: Path, words: str, git: bool, dvc: str | None, sentence: str | None
) -> None:
    if git:
        (folder / ".git").mkdir()
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    if dvc is not None:
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text(dvc)
    answer = CliRunner().invoke(app, words.split())
    if sentence is None:
        assert str(answer.exception) == "a server was started"
    else:
        assert answer.exit_code == 2, answer.output
        assert sentence in answer.stderr
        assert answer.stderr.count("\n") == 1


def test_what_is_found_only_while_the_images_are_listed_leaves_params_as_they_were(folder: Path) -> None:
    project = open_project()
    before = project.params.read_bytes()

    @restore_params_on_error(project)
    def ingest() -> None:
        resolve_params(project, ["train.epochs=3"])
        assert project.params.read_bytes() != before
        raise DataError("table.csv: holds no rows")

    with pytest.raises(DataError):
        ingest()
    assert project.params.read_bytes() == before


def test_one_of_a_thing_is_reported_in_the_singular() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(1, "copy", "copies") == "1 copy"
    assert counted(3, "copy", "copies") == "3 copies"
