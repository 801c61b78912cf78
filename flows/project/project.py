"""Where a project's files are, and which servers it talks to. Machine matters come from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

from components.shared.errors import SettingsError

PARAMS, PIPELINE = "params.yaml", "dvc.yaml"
TEMPLATE = Path(__file__).with_name("template")
"""The files of a new project."""
HOME_VARIABLE = "DARKROOM_HOME"
STAGES = ("validate", "split", "augment")
"""The DVC stages in their order; each is a module of flows.stages and an entry of dvc.yaml."""


@dataclass(frozen=True)
class Project:
    """A folder with its own params.yaml, dvc.yaml and data."""

    root: Path
    home: Path
    """What Darkroom keeps for itself: databases, logs, unfinished work. Not for git."""

    @property
    def params(self) -> Path:
        return self.root / PARAMS

    @property
    def work(self) -> Path:
        """Unfinished and downloaded work, a folder a fingerprint; may be deleted at any time."""
        return self.home / "work"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def servers(self) -> Path:
        """Addresses of the servers that `darkroom ui` or `darkroom up` started here."""
        return self.home / "servers.json"


def open_project(folder: Path | None = None) -> Project:
    """The project that the folder (default: where the command was typed) lies in."""
    start = (folder or Path.cwd()).resolve()
    for root in (start, *start.parents):
        if (root / PARAMS).exists() and (root / PIPELINE).exists():
            home = Path(os.environ.get(HOME_VARIABLE) or root / ".darkroom").resolve()
            return Project(root, home)
    raise SettingsError(
        f"{start} is no Darkroom project: no folder above it has {PARAMS} and {PIPELINE}; go to one, or make one with "
        "`darkroom init`"
    )
