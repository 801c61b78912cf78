"""The raw sections of params.yaml, for a stage that reads one of them and knows nothing of the others."""

from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.models.compound_scaling import LEAST_COMPOUND, MOST_COMPOUND, compound_scale
from components.shared.errors import SettingsError
from components.shared.settings import Settings

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
    return kind.from_section(name, with_resolution(read_sections(path)).get(name) or {})


def with_resolution(sections: dict[str, Any]) -> dict[str, Any]:
    """The sections with the size that goes with model.compound where preprocess.image_size_px is auto."""
    model, preprocess = sections.get("model"), sections.get("preprocess")
    if not isinstance(preprocess, dict) or preprocess.get("image_size_px") != "auto":
        return sections
    compound = model.get("compound") if isinstance(model, dict) else None
    if not isinstance(compound, int | float) or not LEAST_COMPOUND <= compound <= MOST_COMPOUND:
        raise SettingsError(
            "params.yaml: preprocess.image_size_px: is auto, the size that goes with model.compound; give that one a "
            f"number from {LEAST_COMPOUND:g} to {MOST_COMPOUND:g}, or this one a number of pixels"
        )
    side = compound_scale(compound).image_size_px
    return {**sections, "preprocess": {**preprocess, "image_size_px": side}}
