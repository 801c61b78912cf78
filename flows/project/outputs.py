"""Files that a command is asked to write by --out: they replace nothing but what Darkroom itself wrote.

What was written is known by its SHA-256, so a moved or copied file is known too, and one that somebody changed is not.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import iglob
from pathlib import Path

from components.data.files.object_stores import is_address
from components.shared.errors import SettingsError
from components.shared.files import sha256_of_file
from flows.project.dvc import DataPaths, data_paths
from flows.project.project import PARAMS, PIPELINE, Project, open_project

_RECORD = "outputs"
_FILES = (PARAMS, PIPELINE, "dvc.lock", ".dvcignore", ".gitignore", "data/.gitignore", "infra/prefect.yaml")
_FOLDERS = (".git", ".dvc", ".darkroom")


@dataclass(frozen=True)
class Output:
    """Where a command writes, and what it reads: check it before the work, and again before the file is written."""

    target: Path
    sources: tuple[str, ...] = ()
    """Files and folders that the same command reads; what is no path of this machine is left out of account."""
    overwrite: bool = False
    """Whether a file of the user's may be replaced."""

    def check(self) -> None:
        """Raises SettingsError where the target is a source, a file of the project, or not ours and not to replace."""
        target, project = self.target, _project()
        if target.is_dir():
            raise SettingsError(f"--out {target}: is a folder; name a file in it")
        for source in self.sources:
            if self.reads(source):
                raise SettingsError(
                    f"--out {target}: is {source}, which this command reads; choose another name for the result"
                )
        if project is not None and (what := _part_of(project, target)) is not None:
            raise SettingsError(f"--out {target}: {what}; choose another place for the result")
        if not os.path.lexists(target):
            return
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise SettingsError(f"--out {target}: is no regular file; choose another name for the result")
        if not self.overwrite and not _is_ours(project, target):
            raise SettingsError(
                f"--out {target}: is there already, and isn't as Darkroom wrote it; choose another name, or add "
                "--overwrite to replace it"
            )

    def reads(self, source: str) -> bool:
        """Whether the source, or a file that its pattern finds, is the target, however both are spelled or linked."""
        with contextlib.suppress(OSError, ValueError):
            return Path(source).samefile(self.target)
        if is_address(source) or not fnmatch(self.target.name, Path(source).name):
            return False
        return any(_same(Path(found), self.target) for found in iglob(source, recursive=True))  # noqa: PTH207 (of absolute patterns too)

    def record(self) -> None:
        """Notes that the file is ours, so that the same command may replace it."""
        file = _record(_project())
        # Where no note can be kept, the next command asks for --overwrite.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="ascii") as notes:
                notes.write(f"{sha256_of_file(self.target)}\n")


def _project() -> Project | None:
    with contextlib.suppress(SettingsError):
        return open_project()
    return None


def _record(project: Project | None) -> Path:
    if project is not None:
        return project.home / _RECORD
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "darkroom" / _RECORD


def _is_ours(project: Project | None, target: Path) -> bool:
    file = _record(project)
    return target.is_file() and file.is_file() and sha256_of_file(target) in file.read_text("ascii").split()


def _part_of(project: Project, target: Path) -> str | None:
    """What the target is of the project: its settings, its data, or a folder that is kept by a tool."""
    # The link itself would be replaced, and so would what it leads to by whoever reads it.
    for place in (target.parent.resolve() / target.name, target.resolve()):
        for file in _files(project):
            if _same(place, file):
                return f"is {file.relative_to(project.root)}, a file of the project"
        for folder in _folders(project):
            if _is_below(place, folder):
                return f"lies in {folder}, which holds only what Darkroom, DVC and git put there"
    return None


def _files(project: Project) -> Iterator[Path]:
    yield from (project.root / name for name in _FILES)
    for paths in _data(project):
        yield from (paths.report, paths.raw.with_name(f"{paths.raw.name}.dvc"))
        # Corrections and the baseline; a network is there because `darkroom features` wrote it.
        yield from (file for file in paths.reference.glob("*") if file.suffix != ".onnx")


def _folders(project: Project) -> Iterator[Path]:
    yield from (*(project.root / name for name in _FOLDERS), project.home)
    for paths in _data(project):
        yield from (paths.raw, paths.validated, paths.split, paths.augmented)


def _data(project: Project) -> Iterator[DataPaths]:
    # Where dvc.yaml can't be read, the command that needs it says so.
    with contextlib.suppress(Exception):
        yield data_paths(project)


def _is_below(place: Path, folder: Path) -> bool:
    return any(_same(above, folder) for above in place.parents)


def _same(one: Path, other: Path) -> bool:
    """By the file system where both exist: names may differ by their case, and folders by a mount."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return one == other.parent.resolve() / other.name
