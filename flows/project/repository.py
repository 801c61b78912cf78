"""Whether the project's folder is set up for DVC and git, by looking alone."""

import configparser
import subprocess
from pathlib import Path

from components.shared.errors import SettingsError
from flows.project.project import Project

_GIT_SECONDS = 5.0


def require_dvc(project: Project) -> None:
    """Raises SettingsError, before any work, where DVC could not version the data of this folder."""
    problem = dvc_problem(project)
    if problem is not None:
        raise SettingsError(f"{problem[0]}; {problem[1]}")


def dvc_problem(project: Project) -> tuple[str, str] | None:
    """What keeps DVC from working here, and what to type; None where nothing does."""
    home = dvc_home(project)
    if home is None:
        return f"{project.root} is in no DVC project", "type `dvc init` (outside of git `dvc init --no-scm`)"
    try:
        without_git = dvc_setting(home, "core", "no_scm").lower() == "true"
    except configparser.Error as problem:
        return f"{home / 'config'} can't be read ({' '.join(str(problem).split())})", "correct it"
    if not without_git and not inside_git(project):
        return f"DVC counts on git, and {project.root} is in no git repository", "type `git init`"
    return None


def dvc_home(project: Project) -> Path | None:
    """The folder .dvc that DVC would find."""
    homes = [folder / ".dvc" for folder in (project.root, *project.root.parents)]
    return next((folder for folder in homes if folder.is_dir()), None)


def dvc_setting(home: Path, section: str, name: str) -> str:
    """An empty text where neither config file has it."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    # The local file is read last, for it goes before the shared one.
    settings.read([home / "config", home / "config.local"], encoding="utf-8")
    return settings.get(section, name, fallback="")


def inside_git(project: Project) -> bool:
    return ask_git(project, "rev-parse", "--is-inside-work-tree") == "true"


def ask_git(project: Project, *arguments: str) -> str | None:
    """What git answers; None where it fails, takes too long or isn't there."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=project.root, capture_output=True, text=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
