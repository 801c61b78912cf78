"""The raw sections of params.yaml, for a stage that reads one of them and knows nothing of the others."""

from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.models.compound_scaling import LEAST_COMPOUND, MOST_COMPOUND, compound_scale
from components.presets.choices import AUTO, CHOSEN, choose
from components.presets.settings import AutoSettings
from components.records.data_facts import TYPICAL, DataFacts
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


def read_section(path: Path, name: str, kind: type[Section], facts: DataFacts = TYPICAL) -> Section:
    """One typed section; what is `auto` in it follows from the facts of the data."""
    return kind.from_section(name, with_choices(read_sections(path), facts).get(name) or {})


def with_choices(sections: dict[str, Any], facts: DataFacts = TYPICAL) -> dict[str, Any]:
    """The sections with a value for each setting that is `auto`."""
    sections = _with_compound_size(sections)
    names = automatic_names(sections)
    if not names:
        return sections
    fixed = {f"{name}.{key}": value for name, values in _dicts(sections) for key, value in values.items()}
    choices = choose(names, fixed, AutoSettings.from_section("auto", sections.get("auto") or {}), facts)
    chosen = {choice.name: choice.value for choice in choices}
    resolved = {
        name: {key: chosen.get(f"{name}.{key}", value) for key, value in values.items()}
        for name, values in _dicts(sections)
    }
    return {**sections, **resolved}


def automatic_names(sections: dict[str, Any]) -> frozenset[str]:
    """Names of the settings that are `auto` and follow from the data."""
    sections = _with_compound_size(sections)
    named = ((f"{name}.{key}", value) for name, values in _dicts(sections) for key, value in values.items())
    return frozenset(name for name, value in named if value == AUTO and name in CHOSEN)


def _dicts(sections: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, values) for name, values in sections.items() if isinstance(values, dict)]


def _with_compound_size(sections: dict[str, Any]) -> dict[str, Any]:
    """The sections with the size that goes with model.compound where preprocess.image_size_px is auto."""
    model, preprocess = sections.get("model"), sections.get("preprocess")
    if not isinstance(preprocess, dict) or preprocess.get("image_size_px") != AUTO:
        return sections
    compound = model.get("compound") if isinstance(model, dict) else None
    if compound is None:
        return sections
    if not isinstance(compound, int | float) or not LEAST_COMPOUND <= compound <= MOST_COMPOUND:
        raise SettingsError(
            "params.yaml: preprocess.image_size_px: is auto, the size that goes with model.compound; give that one a "
            f"number from {LEAST_COMPOUND:g} to {MOST_COMPOUND:g}, or this one a number of pixels"
        )
    side = compound_scale(compound).image_size_px
    return {**sections, "preprocess": {**preprocess, "image_size_px": side}}
