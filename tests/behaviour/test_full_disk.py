"""Where a disk takes no more, a stage and DVC say so in one sentence with its remedy."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from projects import REPOSITORY

from components.shared.errors import DarkroomError
from components.shared.progress import EVENTS_VARIABLE, Progress
from flows.cli.running import guarded
from flows.project import dvc
from flows.project.dvc import restore_raw
from flows.project.project import Project, open_project
from flows.stages.entry import run_stage

NO_SPACE = "[Errno 28] No space left on device: 'cache/files/md5/61/.x.tmp'"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_stage_that_fills_the_disk_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def write(_: Progress) -> str:
        raise OSError(code, "as the system says", "measured.parquet")

    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    with pytest.raises(SystemExit) as ended:
        run_stage("validate", write)
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("darkroom: validate: the disk of measured.parquet is full (")
    assert printed.endswith("; free some space and run it again\n")
    assert "is full" in (tmp_path / "events.jsonl").read_text()


def test_another_failure_of_the_system_is_shown_as_it_is() -> None:
    def write(_: Progress) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        run_stage("validate", write)


@pytest.fixture
def lacking_its_data(tmp_path: Path) -> Project:
    """A project at a data version whose files aren't there."""
    (tmp_path / "params.yaml").touch()
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw.dvc").write_text("outs:\n- md5: 0123456789abcdef.dir\n  path: raw\n")
    return open_project(tmp_path)


def test_a_full_disk_is_distinguished_from_other_failures_of_dvc(
    lacking_its_data: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 255, "", f"ERROR: failed to transfer '61f1' - {NO_SPACE}")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        DarkroomError, match=r"0123456789ab could not be brought back: dvc pull: the disk is full"
    ) as error:
        restore_raw(lacking_its_data)
    assert str(error.value).endswith("(no space left on device); free some space and run it again")


@pytest.mark.parametrize("phrase", ["disk I/O error", "database is locked"])
def test_where_dvcs_own_database_fails_the_sentence_says_where_it_lies(
    lacking_its_data: Project, monkeypatch: pytest.MonkeyPatch, phrase: str
) -> None:
    failed = subprocess.CompletedProcess([], 255, "", f"ERROR: unexpected error - {phrase}\n\nHaving any troubles?")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(dvc, "_LOCK_PATIENCE_SECONDS", -1.0)
    with pytest.raises(DarkroomError) as error:
        restore_raw(lacking_its_data)
    assert f"DVC's own database can't be used ({phrase}); see that core.site_cache_dir" in str(error.value)
    assert "check the remote's address" not in str(error.value)


def test_in_any_command_a_full_disk_is_one_sentence_and_other_errors_keep_their_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(code: int) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(SystemExit) as ended:
        guarded(lambda: fail(errno.ENOSPC))
    assert ended.value.code == 1
    said = "darkroom: the disk is full (no space left on device); free some space and try again\n"
    assert capsys.readouterr().err == said
    with pytest.raises(PermissionError):
        guarded(lambda: fail(errno.EACCES))
