"""What --out may replace: a file that Darkroom wrote, by --overwrite one of the user's, never one that is read."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import REPOSITORY, isolate
from typer.testing import CliRunner

from components.shared.errors import SettingsError
from flows.cli.main import app
from flows.project.outputs import Output
from flows.serving.predict import _StandardInput

_TABLE = b"path,mine\na.png,1\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a table of the user's in `tables`, and the working directory of the test."""
    isolate(monkeypatch)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("tables", "data/raw", "data/reference", ".darkroom", ".dvc", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("tables/t.csv", "data/raw.dvc", "data/reference/corrections.csv", "data/raw/m.csv", ".dvc/config"):
        (tmp_path / name).write_bytes(_TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _symlink(folder: Path) -> str:
    (folder / "link.csv").symlink_to("tables/t.csv")
    return "link.csv"


def _hard_link(folder: Path) -> str:
    os.link(folder / "tables/t.csv", folder / "hard.csv")
    return "hard.csv"


def _linked_folder(folder: Path) -> str:
    (folder / "aside").symlink_to("tables")
    return "aside/t.csv"


_SPELLINGS: dict[str, Callable[[Path], str]] = {
    "same": lambda folder: "tables/t.csv",
    "dotted": lambda folder: "./tables/../tables//t.csv",
    "absolute": lambda folder: str(folder / "tables/t.csv"),
    "pattern": lambda folder: "tables/*.csv",
    "deep pattern": lambda folder: "**/t.csv",
    "symbolic link": _symlink,
    "hard link": _hard_link,
    "link to the folder": _linked_folder,
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("spelling", _SPELLINGS)
def test_a_source_is_never_replaced(folder: Path, spelling: str, overwrite: bool) -> None:
    spelled = _SPELLINGS[spelling](folder)
    with pytest.raises(SettingsError, match="which this command reads"):
        Output(Path("tables/t.csv"), ("tables/none.csv", spelled), overwrite).check()
    if not any(letter in spelled for letter in "*"):
        with pytest.raises(SettingsError, match="which this command reads"):
            Output(Path(spelled), ("tables/t.csv",), overwrite).check()


@pytest.mark.parametrize(
    "target",
    [
        *("params.yaml", "dvc.yaml", "./data/../params.yaml", "dvc.lock", "data/raw.dvc", "infra/prefect.yaml"),
        *("data/raw/new.csv", "data/raw/m.csv", "data/validated/x.csv", "data/split/x.csv", "data/augmented/x.csv"),
        *(".dvc/config", ".git/x.csv", ".darkroom/x.csv", ".darkroom/work/x.csv", "data/reports/validation.json"),
        "data/reference/corrections.csv",
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_of_the_project_is_never_replaced_nor_added_to_its_data(target: str, overwrite: bool) -> None:
    with pytest.raises(SettingsError, match=r"a file of the project|which holds only what"):
        Output(Path(target), (), overwrite).check()


def test_a_link_that_leads_into_the_project_is_no_way_around(folder: Path) -> None:
    (folder / "elsewhere/p.csv").symlink_to(folder / "params.yaml")
    (folder / "elsewhere/raw").symlink_to(folder / "data/raw")
    for target in ("elsewhere/p.csv", "elsewhere/raw/new.csv"):
        with pytest.raises(SettingsError, match=r"a file of the project|which holds only what"):
            Output(Path(target), (), True).check()


def test_a_file_of_the_users_is_replaced_only_where_that_is_asked_for() -> None:
    with pytest.raises(SettingsError, match="is there already, and isn't as Darkroom wrote it"):
        Output(Path("tables/t.csv")).check()
    Output(Path("tables/t.csv"), overwrite=True).check()
    Output(Path("tables/new.csv")).check()


@pytest.mark.parametrize("in_project", [True, False])
def test_what_darkroom_wrote_may_be_replaced_until_somebody_changes_it(
    folder: Path, in_project: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    if not in_project:
        (folder / "params.yaml").unlink()
    ours = Output(Path("elsewhere/p.csv"))
    ours.target.write_bytes(b"first")
    ours.record()
    ours.check()
    ours.target.rename("elsewhere/moved.csv")
    Output(Path("elsewhere/moved.csv")).check()
    ours.target.write_bytes(b"theirs")
    with pytest.raises(SettingsError, match="isn't as Darkroom wrote it"):
        ours.check()


@pytest.mark.parametrize("target", ["elsewhere", "/dev/null"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_and_a_device_are_never_replaced(target: str, overwrite: bool) -> None:
    with pytest.raises(SettingsError, match=r"is a folder|is no regular file"):
        Output(Path(target), (), overwrite).check()


def test_a_list_on_standard_input_that_names_the_table_ends_the_run() -> None:
    lines = iter(_StandardInput(io.BytesIO(b"a.png\n./tables/t.csv\n"), Output(Path("tables/t.csv"), (), True)))
    assert next(lines) == "a.png\n"
    with pytest.raises(SettingsError, match="is in the list on standard input"):
        next(lines)


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("predict tables/t.csv --out tables/t.csv --overwrite", "tables/t.csv"),
        ("predict tables --out tables/t.csv", "tables/t.csv"),
        ("report --out params.yaml --overwrite", "params.yaml"),
        ("report --out tables/t.csv", "tables/t.csv"),
        ("features plain --weights elsewhere/w.onnx --out elsewhere/w.onnx --overwrite", "elsewhere/w.onnx"),
        ("features plain --weights a.pth --out elsewhere/w.onnx", "elsewhere/w.onnx"),
        ("compare plain lenet5 --out elsewhere/picture.png", "elsewhere/picture.png"),
        ("compare plain lenet5 --out data/raw/a.png --overwrite", "data/raw/a.png"),
    ],
)
def test_every_command_that_writes_asks_before_it_works(folder: Path, words: str, target: str) -> None:
    for name in ("elsewhere/w.onnx", "elsewhere/picture.png", "data/raw/a.png"):
        (folder / name).write_bytes(_TABLE)
    before = (folder / target).read_bytes()
    answer = CliRunner().invoke(app, words.split())
    assert answer.exit_code == 2, answer.output
    assert answer.stderr.startswith("darkroom: --out ")
    assert (folder / target).read_bytes() == before
    assert not (folder / ".darkroom" / "prefect").exists()
