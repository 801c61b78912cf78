"""Atomic writes, temporaries of killed writers, and checksums."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.files import (
    abandoned_temporaries,
    atomic_file,
    atomic_folder,
    read_json,
    sha256_of_file,
    sha256_of_record,
    write_json,
    write_text,
)


def test_a_file_appears_when_the_block_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["report.txt"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "report.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_file(target) as temporary:
            temporary.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


def test_a_folder_replaces_the_old_one_without_a_trace_of_it(tmp_path: Path) -> None:
    target = tmp_path / "raw"
    for content in ("old", "new"):
        with atomic_folder(target) as temporary:
            (temporary / content).mkdir()
            (temporary / content / "file").write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert [path.name for path in target.iterdir()] == ["new"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_a_failure_leaves_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "raw"
    target.mkdir()
    (target / "file").write_text("old")

    def fill() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "file").write_text("new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert (target / "file").read_text() == "old"


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from components.shared.files import atomic_file, atomic_folder
kind, target = sys.argv[1], Path(sys.argv[2])
with (atomic_file if kind == "file" else atomic_folder)(target) as temporary:
    (temporary if kind == "file" else temporary / "file").write_text("new, but only hal")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_process_killed_in_the_middle_leaves_the_old_target(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    file = target if kind == "file" else target / "file"
    file.parent.mkdir(exist_ok=True)
    file.write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, kind, str(target)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    with atomic_file(target) if kind == "file" else atomic_folder(target) as temporary:
        (temporary if kind == "file" else temporary / "file").write_text("new")
    assert file.read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_write_of_a_target_removes_what_a_killed_writer_left(tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "target", tmp_path / "target.txt"
    for path in (target, other):
        subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, kind, str(path)], timeout=60)
    left = sorted(tmp_path.glob(".*"))
    assert len(left) == 2
    assert abandoned_temporaries(tmp_path) == []  # A new one may be about to be locked.
    for temporary in left:
        os.utime(temporary, (0, 0))
    assert abandoned_temporaries(tmp_path) == left
    with atomic_file(target) if kind == "file" else atomic_folder(target) as temporary:
        (temporary if kind == "file" else temporary / "file").write_text("new")
        assert temporary not in abandoned_temporaries(tmp_path)
    assert sorted(tmp_path.glob(".*")) == [path for path in left if path.name.startswith(".target.txt.")]


def test_a_temporary_in_use_is_left_alone(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "raw") as slow:
        (slow / "file").write_text("slow")
        os.utime(slow, (0, 0))
        with atomic_folder(tmp_path / "raw") as quick:
            (quick / "file").write_text("quick")
        assert abandoned_temporaries(tmp_path) == []
    assert (tmp_path / "raw" / "file").read_text() == "slow"


def test_equal_records_are_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {"b": [1, 2.5], "a": {"y": None, "x": "ä"}})
    write_json(tmp_path / "two.json", {"a": {"x": "ä", "y": None}, "b": [1, 2.5]})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert read_json(tmp_path / "one.json") == {"a": {"x": "ä", "y": None}, "b": [1, 2.5]}


def test_text_that_can_not_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_text(target, "old")
    with pytest.raises(TypeError):
        write_json(target, {"model": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "\udcff")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_checksums_depend_on_content_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_record({"a": 1, "b": 2}) == sha256_of_record({"b": 2, "a": 1})
    assert sha256_of_record({"a": 1}) != sha256_of_record({"a": 2})
    assert sha256_of_record({"a": 1}) != sha256_of_record({"a": "1"})
