"""params.yaml as typed sections, read with the reader that DVC uses (YAML 1.2), and edited by --set."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.errors import SettingsError, nearest
from components.files import write_text
from components.settings import Settings


def read_sections(path: Path) -> dict[str, Any]:
    """The sections as plain values; raises SettingsError where the file is missing or no YAML."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path.name} isn't in {path.parent.resolve()}; run darkroom in a project folder") from None
    except YAMLError as problem:
        raise SettingsError(f"{path.name}: can't be read as YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path.name}: should hold sections such as `train:`")
    return content


def read_section(path: Path, name: str, kind: type[Settings]) -> Any:
    """One typed section, for a stage that reads no other."""
    return kind.from_section(name, read_sections(path).get(name) or {})
