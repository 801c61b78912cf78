"""The comments of params.yaml, generated from the docstrings of the settings: each setting is explained in one place.

The comment on a setting's line is the first line of the docstring below the setting's field; more explanation follows
there after an empty line. The params.yaml of new projects is the repository's with other values. After a change of
either run `python -m flows.project.settings_comments`, which writes both files again; tests hold them equal.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.presets.choices import CHOSEN
from components.shared.files import write_text
from flows.project import yaml_text
from flows.project.params import Params
from flows.project.project import PARAMS, TEMPLATE

_LINE = re.compile(r"(?P<setting>(?P<indent> *)(?P<key>[\w.]+):(?P<value>.*?))(?: +#.*)?")
_HEAD = """# The settings of this project. Every line says its unit and what a larger value does.
# auto: chosen from your images and auto.preset; `darkroom settings` shows what became of it, and why.
# Change a value here, or with `--set section.key=value`, which edits this file and says so.
"""
NEW_PROJECT = dict.fromkeys(CHOSEN, "auto") | {
    "ingest.first_source": None,
    "train.label_smoothing": 0.1,
    "finetune.augment": True,
    "quantize.max_accuracy_drop": 0.01,
    "quantize.min_agreement": 0.97,
    "quantize.search_trials": 2,
    "quantize.qat.epochs": 0,
    "quantize.calibration_images": 128,
    "register.name": "PROJECT",
    "promote.beat_baseline": True,
    "promote.floors": None,
}
"""Values of a new project's params.yaml, where they aren't those of the repository."""
_LEAST_WIDTH, _MOST_WIDTH = 26, 54
"""Comments of a section are aligned behind its longest setting, unless that is even wider."""


def with_comments(text: str) -> str:
    """The text of params.yaml with generated comments; raises ValueError for a missing docstring."""
    lines, path = text.splitlines(), [""]
    documented: defaultdict[str, dict[int, tuple[str, str]]] = defaultdict(dict)
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        path[len(match["indent"]) // 2 :] = [match["key"]]
        field = _field_at(path)
        if field is not None and match["value"]:
            documented[path[0]][number] = (match["setting"], _comment(field, path))
    for settings in documented.values():
        width = max([_LEAST_WIDTH, *(len(one) for one, _ in settings.values() if len(one) <= _MOST_WIDTH)])
        for number, (setting, comment) in settings.items():
            lines[number] = f"{setting:<{width}} # {comment}"
    return "\n".join(lines) + "\n"


def _comment(field: FieldInfo, path: Sequence[str]) -> str:
    summary = (field.description or "").partition("\n\n")[0]
    if not summary or "\n" in summary:
        raise ValueError(f"{'.'.join(path)}: the docstring of its field should begin with a paragraph of one line")
    return summary.removesuffix(".")


def _field_at(path: Sequence[str]) -> FieldInfo | None:
    """The field of a setting; None for a section, and for the keys of a dictionary."""
    field, annotation = None, Params.__annotations__[path[0]]
    for name in path[1:]:
        settings = _settings_in(annotation)
        if settings is None:
            return None
        field = settings.model_fields[name]
        annotation = field.annotation
    return field


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def for_new_projects(text: str) -> str:
    """The params.yaml of new projects, made of the repository's: what suits the digits alone is `auto` or open."""
    for name, value in NEW_PROJECT.items():
        text = yaml_text.with_value(text, yaml_text.find(yaml_text.load(text), name.split(".")), value)
    return with_comments(_HEAD + text[text.index("\nauto:") :])


if __name__ == "__main__":
    documented = with_comments(Path(PARAMS).read_text(encoding="utf-8"))
    write_text(Path(PARAMS), documented)
    write_text(TEMPLATE / PARAMS, for_new_projects(documented))
