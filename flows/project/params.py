"""params.yaml as typed sections, read with the reader that DVC uses (YAML 1.2), and edited by --set."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from ruamel.yaml.error import YAMLError

from components.data.augmentation.augmenter import AugmentSettings
from components.data.images.preprocessing import PreprocessSettings
from components.data.quality.label_errors import LabelSettings
from components.data.quality.rules import QualitySettings
from components.data.sources.settings import IngestSettings
from components.data.split.splitter import SplitSettings
from components.evaluation.settings import EvaluateSettings, PredictSettings
from components.export.settings import QuantizeSettings
from components.models.catalogue import COMPOUND
from components.models.scenarios import resolve_scenario
from components.models.settings import ModelSettings
from components.presets.choices import Choice, choose
from components.presets.settings import AutoSettings
from components.promotion.registration import RegisterSettings
from components.promotion.settings import PromoteSettings
from components.records.data_facts import DataFacts
from components.shared.errors import SettingsError, nearest
from components.shared.files import write_text
from components.shared.settings import Settings
from components.training.hyperparameter_search import TuneSettings
from components.training.settings import FinetuneSettings, TrainSettings
from flows.project import yaml_text
from flows.project.sections import automatic_names, read_sections, with_choices


@dataclass(frozen=True)
class Params:
    """Every section, typed and checked."""

    auto: AutoSettings
    ingest: IngestSettings
    preprocess: PreprocessSettings
    validate: QualitySettings
    labels: LabelSettings
    split: SplitSettings
    augment: AugmentSettings
    model: ModelSettings
    train: TrainSettings
    finetune: FinetuneSettings
    evaluate: EvaluateSettings
    predict: PredictSettings
    quantize: QuantizeSettings
    register: RegisterSettings
    promote: PromoteSettings
    tune: TuneSettings
    automatic: frozenset[str] = frozenset()
    """Names of the settings that are `auto`; until `for_data` they have the values that suit typical photos."""

    @classmethod
    def from_sections(cls, sections: dict[str, Any]) -> Self:
        names = [field.name for field in section_fields()]
        for name in sections:
            if name not in names:
                raise SettingsError(f"params.yaml: {name}: unknown section{nearest(name, names)}")
        automatic = automatic_names(sections)
        sections = with_architecture(sections)
        settings: dict[str, Any] = {field.name: _section(field, sections) for field in section_fields()}
        return cls(**settings, automatic=automatic)

    def for_data(self, facts: DataFacts) -> tuple[Self, list[Choice]]:
        """The params with what is `auto` chosen for this data, and the choices with their reasons."""
        fixed = {
            f"{name}.{key}": value
            for name, values in self.as_record().items()
            for key, value in values.items()
            if f"{name}.{key}" not in self.automatic
        }
        choices = choose(self.automatic, fixed, self.auto, facts)
        return self.with_values({choice.name: choice.value for choice in choices}), choices

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """These params with other values, by names such as train.epochs; params.yaml stays as it is.

        Raises SettingsError where a name is unknown or a value is out of range.
        """
        changed: dict[str, Any] = {}
        for place in values:
            if "." not in place:
                raise SettingsError(f"params.yaml: {place}: is a section; name a setting in it, such as train.epochs")
        for name in dict.fromkeys(place.partition(".")[0] for place in values):
            section = getattr(self, name, None)
            if not isinstance(section, Settings):
                known = [field.name for field in section_fields()]
                raise SettingsError(f"params.yaml: {name}: unknown section{nearest(name, known)}")
            own = {place.partition(".")[2]: value for place, value in values.items() if place.startswith(f"{name}.")}
            whole = self._model_with(own) if name == "model" else _with_nested(name, section.model_dump(), own)
            changed[name] = type(section).from_section(name, whole)
        return replace(self, **changed, automatic=self.automatic - set(values))

    def of_architecture(self, name: str) -> Self:
        """The same settings for another architecture."""
        compound = (self.model.compound or 0.0) if name == COMPOUND else None
        return self.with_values({"model.architecture": name, "model.compound": compound})

    def _model_with(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The section `model` with other values: a scenario chooses again, unless an architecture is among them."""
        section = self.model.model_dump()
        if "architecture" in values:
            section["scenario"] = None
        elif section["scenario"] or values.get("scenario"):
            section["architecture"] = None
        return resolve_scenario(section | dict(values), image_size_px=self.preprocess.image_size_px)

    def as_record(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name).model_dump() for field in section_fields()}


def section_fields() -> list[Field[Any]]:
    """The fields of Params that are sections of params.yaml, in their order."""
    return [field for field in fields(Params) if isinstance(field.type, type) and issubclass(field.type, Settings)]


def with_architecture(sections: dict[str, Any]) -> dict[str, Any]:
    """The sections with the architecture that model.scenario asks for and the size that goes with model.compound.

    What is of a wrong type stays as it is.
    """
    sections = with_choices(sections)
    model, preprocess = sections.get("model"), sections.get("preprocess")
    side = preprocess.get("image_size_px") if isinstance(preprocess, dict) else None
    if not isinstance(model, dict) or not isinstance(side, int):
        return sections
    return {**sections, "model": resolve_scenario(model, image_size_px=side)}


def read_params(path: Path) -> Params:
    return Params.from_sections(read_sections(path))


def read_overridden(path: Path, assignments: Sequence[str]) -> Params:
    """What params.yaml would say with these section.key=value pairs; the file stays as it is."""
    return Params.from_sections(yaml_text.load(_edited(path, assignments)[0])) if assignments else read_params(path)


def override(path: Path, assignments: Sequence[str], *, check: Callable[[Params], None]) -> list[str]:
    """Writes section.key=value pairs into params.yaml, as `dvc exp run -S` does; returns a sentence a change.

    Nothing is written when one of them is unknown or out of range, or where `check` raises.
    """
    if not assignments:
        return []
    text, changes = _edited(path, assignments)
    check(Params.from_sections(yaml_text.load(text)))
    if changes:
        write_text(path, text)
    return changes


def _edited(path: Path, assignments: Sequence[str]) -> tuple[str, list[str]]:
    """The text of the file with the pairs in their places, and a sentence a change."""
    read_sections(path)
    text, changes = path.read_text(encoding="utf-8"), []
    for assignment in assignments:
        text, change = _assign(text, assignment)
        changes.append(change)
    return text, [change for change in changes if change]


def _assign(text: str, assignment: str) -> tuple[str, str]:
    name, value = parse_assignment(assignment)
    place = yaml_text.find(yaml_text.load(text), name.split("."))
    if place.missing and not _may_have(place):
        known = place.value if isinstance(place.value, dict) else {}
        lacking = ".".join([*place.keys, place.missing[0]])
        raise SettingsError(f"params.yaml: {lacking}: unknown{nearest(place.missing[0], known)}")
    before = None if place.missing else place.value
    if not place.missing and before == value and type(before) is type(value):
        return text, ""
    try:
        changed = yaml_text.with_value(text, place, value)
    except yaml_text.NotWritable:
        raise SettingsError(
            f"--set {assignment}: params.yaml shares this value with another place (an anchor, an alias or a merge); "
            "change it there by hand"
        ) from None
    return changed, f"params.yaml: {name} {shown(before)} → {shown(value)}"


def parse_assignment(assignment: str, *, option: str = "--set") -> tuple[str, Any]:
    """The name and the value of section.key=value; raises SettingsError where it reads otherwise."""
    place, equals, text = assignment.partition("=")
    name = place.strip()
    if not equals or len(name.split(".")) < 2:
        raise SettingsError(f"{option} {assignment}: should read section.key=value, such as train.epochs=3")
    try:
        return name, yaml_text.load(text)
    except YAMLError:
        raise SettingsError(f"{option} {assignment}: {text} can't be read as a YAML value") from None


def _may_have(place: yaml_text.Place) -> bool:
    """Whether a setting that the file lacks may stand there: its section's own check names a wrong one."""
    if not place.keys:
        return place.missing[0] in {field.name for field in section_fields()}
    return place.value is None or isinstance(place.value, dict)


def resolved_text(path: Path, params: Params) -> str:
    """The text of params.yaml with these params in it: who reads it finds the same settings."""
    text, before = path.read_text(encoding="utf-8"), read_params(path).as_record()
    for section, settings in json.loads(json.dumps(params.as_record())).items():
        for name, value in settings.items():
            if value == json.loads(json.dumps(before[section][name])):
                continue
            # A scenario chooses the architecture where that is null.
            is_chosen = (section, name) == ("model", "architecture") and params.model.scenario is not None
            place = yaml_text.find(yaml_text.load(text), [section, name])
            try:
                text = yaml_text.with_value(text, place, None if is_chosen else value)
            except yaml_text.NotWritable:
                raise SettingsError(
                    f"params.yaml: {section}.{name}: shares its value with another place (an anchor, an alias or a "
                    "merge), so it can't hold for one run alone; write it out in both places"
                ) from None
    return text


def _with_nested(section: str, settings: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a section with values by names such as qat.epochs."""
    for name, value in values.items():
        place = yaml_text.find(settings, name.split("."))
        if place.missing and place.value is not None and not isinstance(place.value, dict):
            raise SettingsError(f"params.yaml: {section}.{name}: unknown")
        for key in reversed(place.missing[1:]):
            value = {key: value}
        settings = yaml_text.changed(settings, place, value)
    return settings


def shown(value: Any) -> str:
    """The value as params.yaml writes it."""
    return "null" if value is None else str(value)


def _section(field: Any, sections: dict[str, Any]) -> Settings:
    values = sections.get(field.name)
    if values is not None and not isinstance(values, dict):
        raise SettingsError(f"params.yaml: {field.name}: should be a section with keys, is {values!r}")
    section: Settings = field.type.from_section(field.name, values or {})
    return section
