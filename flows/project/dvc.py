"""The only module that runs DVC: versions of the raw data, and the stages that depend on it."""

import configparser
import contextlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock
from ruamel.yaml import YAML

from components.shared.errors import DarkroomError, DataError, ServiceError
from components.shared.files import DISK_FULL, sha256_of_record, write_text
from flows.console.signals import undisturbed
from flows.project.child_process import Event, code_variables, last_lines, run_child
from flows.project.project import PIPELINE, STAGES, Project

logger = logging.getLogger(__name__)

_LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by", "database is locked")
_FULL = (*map(os.strerror, DISK_FULL), "disk is full")
"""The last is SQLite's, in which DVC keeps its state."""
_DATABASE = ("disk I/O error", "database is locked", "database disk image is malformed", "unable to open database file")
"""SQLite's, of the same database."""
_CAME_SHORT = ("failed to transfer", "could not be linked", "No possible cache link types")
"""What DVC prints where its cache or the project lacks files, whatever its exit code."""
_LACKING = ("missing-files", "key does not exist", "No such file")
_EXTRAS = {"dvc-s3": "s3", "dvc-gs": "gs", "dvc-azure": "az"}
"""The extra of our own package that brings a driver of DVC's."""
_LOCK_PATIENCE_SECONDS = 600.0
_NONE = "none"
"""A file that says: there were no raw data before."""


@dataclass(frozen=True)
class DataPaths:
    """As dvc.yaml writes them."""

    raw: Path
    reference: Path
    validated: Path
    report: Path
    split: Path
    augmented: Path


@dataclass(frozen=True)
class StageRun:
    name: str
    ran: bool
    seconds: float
    summary: str


def data_paths(project: Project) -> DataPaths:
    """The paths that dvc.yaml gives its stages by their flags, such as --raw data/raw."""
    stages = YAML(typ="safe", pure=True).load((project.root / PIPELINE).read_text(encoding="utf-8"))["stages"]
    words = [word for stage in STAGES for word in shlex.split(stages[stage]["cmd"])]
    flags = {flag.removeprefix("--"): value for flag, value in pairwise(words) if flag.startswith("--")}
    return DataPaths(**{field.name: project.root / flags[field.name] for field in fields(DataPaths)})


def stage_params(project: Project) -> list[str]:
    """The settings that DVC's stages and the ingest read from params.yaml, such as split and model.compound."""
    stages = YAML(typ="safe", pure=True).load((project.root / PIPELINE).read_text(encoding="utf-8"))["stages"]
    named = [name for stage in STAGES for name in stages[stage].get("params", []) if isinstance(name, str)]
    return list(dict.fromkeys(["ingest", *named]))


def data_version(project: Project) -> str | None:
    """DVC's digest of the current raw data; None where nothing was ingested yet."""
    pointer = _pointer(project)
    if not pointer.exists():
        return None
    version: str = YAML(typ="safe", pure=True).load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"]
    return version


def stage_digest(project: Project, stage: str) -> str:
    """A digest of everything that the stage wrote, as dvc.lock has it."""
    return lock_digest(project.root / "dvc.lock", stage)


def lock_digest(file: Path, stage: str) -> str:
    """The same of any dvc.lock, such as one that was kept with a run."""
    lock = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    outs = [(out["path"], out["md5"]) for out in lock["stages"][stage]["outs"] if not out["path"].endswith(".json")]
    return sha256_of_record(outs)


def version_files(project: Project) -> list[Path]:
    """The small files that pin the data version, to be kept with a run."""
    files = (_pointer(project), project.root / "dvc.lock", project.root / PIPELINE, project.params)
    return [path for path in files if path.exists()]


def check_out_version(project: Project, kept: Path, *, like: Project) -> None:
    """Makes the folder a DVC project of its own, at the version that the `kept` files pin; it shares cache and remotes.

    `kept` is a folder with what `version_files` named, and perhaps with the reference data.
    """
    for name in (PIPELINE, "dvc.lock", project.params.name):
        if (kept / name).exists():
            shutil.copyfile(kept / name, project.root / name)
    pointer = _pointer(project)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept / pointer.name, pointer)
    if (kept / "reference").is_dir():
        shutil.copytree(kept / "reference", data_paths(project).reference, dirs_exist_ok=True)
    _link_dvc(project, like)


def _link_dvc(project: Project, like: Project) -> None:
    """The same cache and remotes, and no git."""
    home = next(folder / ".dvc" for folder in (like.root, *like.root.parents) if (folder / ".dvc").is_dir())
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    # The local file is read last, for it goes before the shared one.
    settings.read([home / "config", home / "config.local"], encoding="utf-8")
    for section in ("core", "cache"):
        if not settings.has_section(section):
            settings.add_section(section)
    settings["core"]["no_scm"] = "true"
    settings["cache"]["dir"] = str(home / settings["cache"].get("dir", "cache"))
    for section in settings.sections():
        address = settings[section].get("url", "")
        if address and "://" not in address:
            settings[section]["url"] = str((home / address).resolve())
    target = project.root / ".dvc"
    target.mkdir(exist_ok=True)
    for file in target.glob("config*"):
        file.unlink()
    with (target / "config").open("w", encoding="utf-8") as stream:
        settings.write(stream)


def restore_raw(project: Project) -> None:
    """Restores the raw data of the current version where its folder is gone; DataError where it can't be had."""
    recover_raw(project)
    if data_version(project) is not None and not data_paths(project).raw.exists():
        _bring_back(project)


def replace_raw(project: Project, draft: Path) -> str:
    """Makes a filled folder the raw data and the current version, and returns its digest; or leaves both as they were.

    What was there waits beside it until DVC has the new version: after a kill, `recover_raw` puts it back.
    """
    raw, before = data_paths(project).raw, _backup_of(project)
    with _raw_alone(project):
        _recover(project)
        before.mkdir()
        try:
            if _pointer(project).exists():
                shutil.copy2(_pointer(project), before)
            if raw.exists():
                raw.replace(before / raw.name)
            else:
                (before / _NONE).touch()
            draft.replace(raw)
            _dvc(project, "add", str(raw.relative_to(project.root)))
        except BaseException:
            _put_raw_back(project)
            raise
        shutil.rmtree(before)
    version = data_version(project)
    assert version is not None
    return version


def recover_raw(project: Project) -> None:
    """Ends what an ingest that was killed had begun: the raw data are again those of the current version."""
    if _backup_of(project).exists():
        with _raw_alone(project):
            _recover(project)


def reproduce(project: Project, on_event: Callable[[Event], None]) -> list[StageRun]:
    """Brings the stages up to date; a stage's own error is raised as it is."""
    _require_raw(project)
    # Reference data: a new project has none yet, and DVC wants what a stage depends on.
    data_paths(project).reference.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "dvc", "repro"]
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    with _one_at_a_time(project):
        while True:
            log = project.logs / "dvc-repro.log"
            finished = run_child(command, folder=project.root, log=log, on_event=on_event, variables=_variables())
            text = log.read_text(encoding="utf-8", errors="replace")
            if finished.exit_code == 0 and not _came_short(text):
                return [_stage_run(name, finished.events) for name in STAGES]
            said = " | ".join(filter(_came_short, text.splitlines())) or last_lines(log)
            if not any(phrase in said for phrase in _LOCKED) or time.monotonic() > deadline:
                raise _failure("repro", said, f" (all of it in {log})")
            time.sleep(1.0)


@contextlib.contextmanager
def restore_data_on_failure(project: Project) -> Iterator[None]:
    """Brings the data version and the stages' outputs back to what they were when the block fails."""
    files = {path: _text_of(path) for path in _pins(project)}
    paths = data_paths(project)
    folders = (paths.raw, paths.validated, paths.split, paths.augmented)
    present = {path: path.exists() for path in folders}
    try:
        yield
    except BaseException as problem:
        if isinstance(problem, KeyboardInterrupt) and files[_pointer(project)] is None:
            # There was no version before: the next command resumes from what was ingested so far.
            raise
        with undisturbed():
            _take_back(project, files, present)
        raise


def _take_back(project: Project, files: dict[Path, str | None], present: dict[Path, bool]) -> None:
    """`files` are the pins with their texts, `present` the raw data and the stages' outputs, as they were."""
    for path in (path for path in present if not present[path]):
        shutil.rmtree(path, ignore_errors=True)
    changed = [path for path, text in files.items() if _text_of(path) != text]
    for path in changed:
        _put_back(path, files[path])
    # DVC removes the output of a stage before it runs.
    gone = [path for path in present if present[path] and not path.exists()]
    if (changed or gone) and files[_pointer(project)] is not None:
        try:
            # The outputs of stages that had none yet are in no version.
            outputs = [str(path.relative_to(project.root)) for path in [*present][1:] if present[path]]
            pointer = str(_pointer(project).relative_to(project.root))
            _dvc(project, "checkout", "--force", pointer, *outputs)
        except DarkroomError as problem:
            logger.warning(f"the files of the data version before could not be put back: {problem}")


def _pins(project: Project) -> list[Path]:
    return [_pointer(project), project.root / "dvc.lock"]


def _pointer(project: Project) -> Path:
    raw = data_paths(project).raw
    return raw.with_name(raw.name + ".dvc")


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _put_back(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, text)


def _backup_of(project: Project) -> Path:
    """Where the raw data and its pointer wait while new ones take their place; the folder is there only meanwhile."""
    raw = data_paths(project).raw
    return raw.with_name(f".{raw.name}.before")


def _recover(project: Project) -> None:
    """Restores the backup, unless DVC has made the new data the current version."""
    before = _backup_of(project)
    if before.exists():
        if _text_of(before / _pointer(project).name) == _text_of(_pointer(project)):
            _put_raw_back(project)
        shutil.rmtree(before, ignore_errors=True)


def _put_raw_back(project: Project) -> None:
    before, raw = _backup_of(project), data_paths(project).raw
    if (before / raw.name).exists() or (before / _NONE).exists():
        shutil.rmtree(raw, ignore_errors=True)
        _put_back(_pointer(project), _text_of(before / _pointer(project).name))
    if (before / raw.name).exists():
        (before / raw.name).replace(raw)
    shutil.rmtree(before)


def _raw_alone(project: Project) -> FileLock:
    project.home.mkdir(parents=True, exist_ok=True)
    return FileLock(project.home / "raw.lock")


def _require_raw(project: Project) -> None:
    if data_version(project) is None:
        raise DataError("there is no data yet; run `darkroom ingest --data FOLDER` first")
    restore_raw(project)


def _bring_back(project: Project) -> None:
    """The raw data from DVC's cache, or from its remote where one is set up."""
    pointer = str(_pointer(project).relative_to(project.root))
    try:
        _dvc(project, "checkout", pointer)
    except DarkroomError:
        try:
            _dvc(project, "pull", pointer)
        except DarkroomError as problem:
            raise _why_not_pulled(str(data_version(project))[:12], str(problem)) from None


def _why_not_pulled(version: str, said: str) -> DarkroomError:
    """DVC's many words as one sentence with its remedy."""
    if _full(said) or _in_database(said):
        return DarkroomError(f"data version {version} could not be brought back: {said}")
    if driver := re.search(r"requires '?(dvc-\w+)", said):
        extra = _EXTRAS.get(driver[1])
        remedy = f"pip install 'darkroom[{extra}]'" if extra else f"pip install {driver[1]}"
        return DataError(f"data version {version} lies in a remote whose driver is not installed; {remedy}")
    if any(phrase in said for phrase in _LACKING):
        return DataError(
            f"data version {version} lies neither in DVC's cache nor in a remote; "
            "push it from where it was made, or ingest it again with --data"
        )
    first = said.partition("ERROR: ")[2].partition(" ERROR: ")[0] or said
    return ServiceError(
        f"data version {version} could not be pulled: {first}; check the remote's address, the credentials and the "
        "network"
    )


def _stage_run(name: str, events: list[Event]) -> StageRun:
    for event in events:
        if event["event"] == "ran" and event["stage"] == name:
            return StageRun(name, True, float(event["seconds"]), str(event["summary"]))
    return StageRun(name, False, 0.0, "nothing it depends on has changed")


def _dvc(project: Project, *arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments]
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    with _one_at_a_time(project):
        while True:
            answer: Any = subprocess.run(
                command,
                cwd=project.root,
                env={**os.environ, **_variables()},
                capture_output=True,
                text=True,
                # Away from a Ctrl-C in the terminal: it must not cut off what brings the data back.
                start_new_session=True,
            )
            said = " ".join((answer.stderr or answer.stdout).split())
            if answer.returncode == 0 and not _came_short(said):
                return
            if not any(phrase in said for phrase in _LOCKED) or time.monotonic() > deadline:
                raise _failure(arguments[0], said)
            time.sleep(1.0)


def _failure(verb: str, said: str, where: str = "") -> DarkroomError:
    if phrase := _full(said):
        return DarkroomError(
            f"dvc {verb}: the disk is full ({phrase.lower()}); free some space and run it again{where}"
        )
    if phrase := _in_database(said):
        return DarkroomError(
            f"dvc {verb}: DVC's own database can't be used ({phrase}); see that core.site_cache_dir of its settings "
            f"(/var/tmp/dvc without one) lies on a sound local disk that no other DVC holds, and run it again{where}"
        )
    if _came_short(said):
        # What DVC says further is about its own ways of linking.
        first = said.partition(". ")[0]
        remedy = "free some space, see that DVC's cache can be written, and run it again"
        return DarkroomError(f"dvc {verb} failed: {first}; {remedy}{where}")
    return DarkroomError(f"dvc {verb} failed: {said}{where}")


def _came_short(said: str) -> bool:
    return any(phrase in said for phrase in _CAME_SHORT)


def _full(said: str) -> str | None:
    return next((phrase for phrase in _FULL if phrase in said), None)


def _in_database(said: str) -> str | None:
    return next((phrase for phrase in _DATABASE if phrase in said), None)


def _one_at_a_time(project: Project) -> FileLock:
    """DVC fails at once where another DVC works in the same folder: ours wait for each other."""
    project.home.mkdir(parents=True, exist_ok=True)
    return FileLock(project.home / "dvc.lock")


def _variables() -> dict[str, str]:
    """The stages' `darkroom` is the one of this Python, and its code is the code that runs here."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**code_variables(), "PATH": path, "DVC_NO_ANALYTICS": "1"}
