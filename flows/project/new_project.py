"""`darkroom init`: a project in any folder. It holds settings and versions of data, and none of the code."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from components.data.files.folders import is_image
from components.shared.errors import DarkroomError, SettingsError
from flows.project.child_process import code_variables
from flows.project.project import PARAMS, PIPELINE, TEMPLATE

logger = logging.getLogger(__name__)

_FILES = {
    PARAMS: PARAMS,
    PIPELINE: PIPELINE,
    "gitignore": ".gitignore",
    "dvcignore": ".dvcignore",
    "README.md": "README.md",
}
"""The template's files and their names in a project."""
_NAME = "PROJECT"
"""Stands for the project's name in the files of the template."""
_KEPT = (".gitignore", ".dvcignore", "README.md")
"""A user's own files of these names stay."""
_FORBIDDEN = re.compile(r"[^\w -]+", re.ASCII)


@dataclass(frozen=True)
class NewProject:
    folder: str
    name: str
    """Name of the project, and of its model in the registry."""


def init_project(folder: Path) -> NewProject:
    """Makes the folder a project, whole or not at all; git and DVC are set up where they aren't.

    Raises SettingsError where the folder is a project, lies in one, holds images, or can't be written.
    """
    folder = folder.resolve()
    _check(folder)
    made_folder = not folder.exists()
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = _FORBIDDEN.sub("-", folder.name).strip("-_ ") or "model"
        for source, target in _FILES.items():
            if not (target in _KEPT and (folder / target).exists()):
                # Quoted, for YAML reads a name such as 2024 or yes as something else.
                shown = json.dumps(name, ensure_ascii=False) if source == PARAMS else name
                text = (TEMPLATE / source).read_text(encoding="utf-8").replace(_NAME, shown)
                made.append(folder / target)
                (folder / target).write_text(text, encoding="utf-8")
        _version(folder, made)
    except BaseException as problem:
        for path in [folder] if made_folder else made:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if isinstance(problem, OSError):
            raise SettingsError(
                f"{folder} can't be made a project: {os.strerror(problem.errno or 0).lower()}"
            ) from None
        raise
    return NewProject(str(folder), name)


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file; name a folder")
    for above in (folder, *folder.parents):
        if (above / PARAMS).exists() and (above / PIPELINE).exists():
            where = "is a Darkroom project already" if above == folder else f"lies in the Darkroom project {above}"
            raise SettingsError(f"{folder} {where}; go there and run `darkroom run`, or name another folder")
    for name in (PARAMS, PIPELINE):
        if (folder / name).exists():
            raise SettingsError(f"{folder} has a {name} of something else; name another folder")
    if folder.is_dir() and _holds_images(folder):
        raise SettingsError(
            f"{folder} holds images; make the project beside them: darkroom init {folder.name}-model --data {folder}"
        )


def _holds_images(folder: Path) -> bool:
    """Whether images stand in the folder, or in several folders within it, as a class each."""
    inside = [place for place in folder.iterdir() if place.is_dir() and not place.name.startswith(".")]
    own, *classes = (
        os.access(place, os.R_OK) and any(is_image(file.name) for file in place.iterdir())
        for place in (folder, *inside)
    )
    return own or sum(classes) > 1


def _version(folder: Path, made: list[Path]) -> None:
    """Sets up git where the folder is in no repository, and DVC; without git DVC does without it too."""
    in_git = _runs(["git", "rev-parse", "--is-inside-work-tree"], folder)
    if not in_git and shutil.which("git") is not None:
        made.append(folder / ".git")
        in_git = _runs(["git", "init", "--quiet"], folder)
    if (folder / ".dvc").exists():
        # A user's own, which stays as it is whatever happens.
        return
    made.append(folder / ".dvc")
    own = (folder / ".git").exists()
    options = [] if own else ["--subdir"] if in_git else ["--no-scm"]
    dvc = [sys.executable, "-m", "dvc"]
    for command in ([*dvc, "init", "--quiet", *options], [*dvc, "config", "core.analytics", "false"]):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env={**os.environ, **code_variables()}
        )
        if done.returncode:
            raise DarkroomError(f"DVC can't be set up in {folder}: {' '.join(done.stderr.split())[-200:]}")


def _runs(command: list[str], folder: Path) -> bool:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
    except OSError:
        return False
