"""The raw sections of params.yaml, for a stage that reads one of them and knows nothing of the others."""

from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.errors import SettingsError
from components.settings import Settings

Section = TypeVar("Section", bound=Settings)


def read_sections(path: Path) -> dict[str, Any]:
    """The sections as plain values; raises SettingsError where the file is missing or no YAML."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} isn't there; run darkroom in a project folder") from None
    except (YAMLError, UnicodeDecodeError) as problem:
        raise SettingsError(f"{path.name}: can't be read as YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path.name}: should hold sections such as `train:`")
    return content


def read_optional(path: Path, name: str, kind: type[Section]) -> Section | None:
    """A typed part of a section, such as split.duplicates.embeddings; None where it is null or missing."""
    values: Any = read_sections(path)
    for step in name.split("."):
        values = values.get(step) if isinstance(values, dict) else None
    return None if values is None else kind.from_section(name, values)


def read_section(path: Path, name: str, kind: type[Section]) -> Section:
    """One typed section."""
    return kind.from_section(name, read_sections(path).get(name) or {})
