"""Ingesting is all or nothing, whatever fails and whenever it is killed; with real DVC, without a server."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from projects import full_disk, new_project, write_shapes

from components.data.raw.dataset import MANIFEST, read_manifest
from components.data.sources import IngestSettings, find
from components.shared.errors import DarkroomError, DataError
from flows.project import dvc
from flows.project.dvc import data_paths, data_version, replace_raw, restore_data_on_failure, restore_raw
from flows.project.params import override
from flows.project.project import Project, open_project
from flows.steps.ingest import _bring_in, _listed

FEW = ("circle", "square")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one data version; each test takes a copy."""
    root = new_project(tmp_path_factory.mktemp("ingested") / "project")
    ingest(open_project(root), write_shapes(root.parent / "shapes", each=6, labels=FEW))
    return root


@pytest.fixture
def project(ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("DARKROOM_HOME", raising=False)
    return open_project(Path(shutil.copytree(ingested, tmp_path / "project", symlinks=True)))


def ingest(project: Project, folder: Path) -> str:
    return _bring_in(project, find(str(folder), IngestSettings()))[0]


def state(project: Project) -> dict[str, bytes]:
    """Every file of the raw data and its pointer, and whatever lies beside them."""
    data = data_paths(project).raw.parent
    return {str(file.relative_to(data)): file.read_bytes() for file in sorted(data.rglob("*")) if file.is_file()}


def more_shapes(folder: Path) -> Path:
    return write_shapes(folder / "more", each=9, labels=FEW)


def test_a_failed_dvc_add_leaves_the_version_before(project: Project, tmp_path: Path) -> None:
    before = state(project)
    # DVC keeps its cache here: what it can't write, it can't add.
    cache = project.root / ".dvc" / "cache"
    shutil.move(cache, tmp_path / "cache")
    cache.write_text("in the way")
    with pytest.raises(DarkroomError, match="dvc add failed"):
        ingest(project, more_shapes(tmp_path))
    assert state(project) == before
    cache.unlink()
    shutil.move(tmp_path / "cache", cache)
    assert ingest(project, tmp_path / "more") == data_version(project)
    assert len(read_manifest(data_paths(project).raw)) == 18
    assert set(state(project)) - set(before) == {"raw/images-00001.tar"}


def test_a_disk_that_fills_while_dvc_adds_leaves_the_version_before(project: Project, tmp_path: Path) -> None:
    before = state(project)
    (tmp_path / "draft").mkdir()
    (tmp_path / "draft" / "images-00000.tar").write_bytes(b"x" * 3_000_000)
    sentence = r"dvc add: the disk is full \(file too large\); free some space and run it again"
    with full_disk(2_000_000), pytest.raises(DarkroomError, match=sentence):
        replace_raw(project, tmp_path / "draft")
    assert state(project) == before


def test_files_that_dvc_can_not_bring_back_from_its_cache_are_no_version(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk `dvc add` exits with 0, and the folder lacks files."""
    before = state(project)
    said = subprocess.CompletedProcess(
        [], 0, "", "Some targets could not be linked from cache to workspace.\nSee <manual>"
    )
    monkeypatch.setattr(dvc.subprocess, "run", lambda *_, **__: said)
    (tmp_path / "draft").mkdir()
    with pytest.raises(DarkroomError, match="linked from cache to workspace; free some space"):
        replace_raw(project, tmp_path / "draft")
    assert state(project) == before


def test_a_first_preparation_that_fails_leaves_the_raw_data_alone(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    before = state(project)

    @restore_data_on_failure(project)
    def work() -> None:
        (project.root / "dvc.lock").write_text("schema: '2.0'\n")
        data_paths(project).validated.mkdir()
        raise DarkroomError("the disk is full")

    with pytest.raises(DarkroomError, match="the disk is full"):
        work()
    assert state(project) == before
    assert not (project.root / "dvc.lock").exists()
    assert "could not be put back" not in capfd.readouterr().err


def test_what_a_stage_that_failed_had_removed_is_put_back(project: Project) -> None:
    """As DVC removes the output of a stage before it runs, and the disk is then full."""
    before = state(project)

    @restore_data_on_failure(project)
    def work() -> None:
        shutil.rmtree(data_paths(project).raw)
        raise DarkroomError("the disk is full")

    with pytest.raises(DarkroomError, match="the disk is full"):
        work()
    assert state(project) == before


BAD_TABLES = {
    "a missing column": ("path,lable\na.png,x\n", "column label is missing; rename 'lable'"),
    "a repeated column": ("path,label,label\na.png,x,y\n", "column label occurs 2 times; keep one"),
    "an empty manifest": ("", "is empty"),
    "no rows": ("path,label\n", "holds no rows"),
    "an absolute path": ("path,label\n/etc/a.png,x\n", "'/etc/a.png' isn't a path inside"),
    "a path that escapes": ("path,label\n../a.png,x\n", "'../a.png' isn't a path inside"),
    "a repeated path": ("path,label\na.png,x\na.png,y\n", "a.png is already in row 1"),
    "paths that differ in case": ("path,label\na.png,x\nA.png,y\n", "A.png and a.png differ only in case"),
    "an empty label": ("path,label\na.png,x\nb.png,\n", "row 2: the label in column label is empty"),
    "numbers as labels": ("path,label\na.png,0.25\nb.png,3\n", "the labels are numbers such as 0.25"),
    "group against given split": (
        "path,label,group,split\na.png,x,g,train\nb.png,y,g,test\n",
        "group g is in 2 splits",
    ),
    "a timestamp": ("path,label,timestamp\na.png,x,soon\nb.png,y,\n", "timestamp 'soon' should be ISO 8601"),
    "no file": ("path,label\nc.png,x\nd.png,y\n", "none of the 2 files can be ingested"),
}


@pytest.mark.parametrize("mistake", BAD_TABLES)
def test_a_bad_table_is_one_sentence_and_the_current_version_stays(
    project: Project, tmp_path: Path, mistake: str
) -> None:
    before, version = state(project), data_version(project)
    text, sentence = BAD_TABLES[mistake]
    (tmp_path / "table.csv").write_text(text)
    shapes = sorted(write_shapes(tmp_path / "shapes", each=1, labels=FEW).rglob("*.png"))
    for shape, name in zip(shapes, ("a.png", "b.png"), strict=True):
        shutil.copy(shape, tmp_path / name)
    with pytest.raises(DataError, match=re.escape(sentence)) as refused:
        ingest(project, tmp_path / "table.csv")
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)
    assert state(project) == before
    assert data_version(project) == version


def test_a_label_that_the_parameters_do_not_know_is_refused_and_the_current_version_stays(
    project: Project, tmp_path: Path
) -> None:
    before = state(project)
    override(project.params, ["ingest.classes=[circle, sqare]"], check=lambda _: None)
    with pytest.raises(
        DataError, match=r"the label 'square' is none of ingest\.classes; did you mean sqare"
    ) as refused:
        _listed(project, str(more_shapes(tmp_path)))
    assert refused.value.exit_code == 3
    assert state(project) == before


def test_a_table_is_read_by_the_splits_and_rules_of_the_split(project: Project, tmp_path: Path) -> None:
    write_shapes(tmp_path / "set", each=2, labels=FEW)
    table = tmp_path / "set" / "table.csv"
    rows = [
        f"{label}/{number:03d}.png,{label},g,{split}"
        for label in FEW
        for number, split in enumerate(("train", "holdout"))
    ]
    table.write_text("\n".join(["path,label,group,split", *rows]))
    with pytest.raises(DataError, match="split 'holdout' is none of"):
        _listed(project, str(table))
    fractions = "split.fractions={train: 0.6, val: 0.1, test: 0.2, holdout: 0.1}"
    override(project.params, [fractions], check=lambda _: None)
    with pytest.raises(DataError, match=r"group g is in 2 splits .* or set split\.given: ignore"):
        _listed(project, str(table))
    override(project.params, ["split.given=ignore"], check=lambda _: None)
    assert {image.given_split for image in _listed(project, str(table)).images} == {"train", "holdout"}


def test_a_failed_first_ingest_leaves_nothing(tmp_path: Path) -> None:
    project = open_project(new_project(tmp_path / "project"))
    before = state(project)
    (project.root / ".dvc" / "cache").write_text("in the way")
    with pytest.raises(DarkroomError, match="dvc add failed"):
        ingest(project, more_shapes(tmp_path))
    assert state(project) == before


@pytest.mark.parametrize("moment", ["before DVC", "after DVC"])
def test_a_killed_ingest_is_recovered_by_the_next_command(project: Project, tmp_path: Path, moment: str) -> None:
    before, version = state(project), data_version(project)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(project.root), str(more_shapes(tmp_path)), moment])
    assert killed.returncode == -signal.SIGKILL
    assert (data_paths(project).raw.parent / ".raw.before").exists()
    restore_raw(project)
    if moment == "before DVC":
        assert state(project) == before
    else:
        assert data_version(project) != version
        assert len(read_manifest(data_paths(project).raw)) == 18
    assert not (data_paths(project).raw.parent / ".raw.before").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from components.data.sources import IngestSettings, find
from flows.project import dvc
from flows.steps.ingest import _bring_in
from flows.project.project import open_project

add = dvc._dvc

def kill(project, *arguments):
    if sys.argv[3] == "after DVC":
        add(project, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)

dvc._dvc = kill
_bring_in(open_project(Path(sys.argv[1])), find(sys.argv[2], IngestSettings()))
"""


def test_the_same_data_again_repairs_a_damaged_folder(project: Project) -> None:
    version = data_version(project)
    (data_paths(project).raw / MANIFEST).unlink()
    assert ingest(project, shapes_of(project)) == version
    assert len(read_manifest(data_paths(project).raw)) == 12


def shapes_of(project: Project) -> Path:
    return write_shapes(project.root.parent / "again", each=6, labels=FEW)


def test_what_an_ingest_took_and_left_out_is_printed(
    project: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = write_shapes(tmp_path / "many", each=1, labels=FEW)
    for number in range(14):
        shutil.copytree(folder / "circle", folder / f"{number:02}")
    (folder / "circle" / "Thumbs.db").write_text("clutter")
    (folder / "circle" / "out.png").symlink_to(tmp_path / "outside.png")
    ingest(project, folder)
    assert "16 single-label classes and their images: 00 (1), 01 (1)," in caplog.text
    assert "11 (1), and 4 more" in caplog.text
    assert "1 file left out, no image by the name: 1 Thumbs.db (such as circle/Thumbs.db)" in caplog.text
    assert "1 of 17 files (1 × a link that leads out of the data folder; ingest.follow_links: true" in caplog.text
