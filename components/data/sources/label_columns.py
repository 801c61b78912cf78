"""A row of a table, or a record of a tar shard, becomes labels, group, time, split and weight; or one clear sentence.

Numbers are names here: the label 7 is the class `7`, in every kind of table. Fractions such as 0.25 name no class.
"""

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from components.data.sources.settings import IngestSettings
from components.data.sources.source import LEVEL_JOINT, SET_JOINT, Kind
from components.shared.errors import DataError, nearest

_OWN = ("path", "label", "labels", "group", "timestamp", "split", "weight")
_NO_VALUE = ("nan", "<na>")
"""How pandas writes an empty cell where a column was made text."""
_LONGEST = 100
"""A further column with a longer text tells images apart rather than in kinds."""


@dataclass(frozen=True)
class LabelColumns:
    kind: Kind
    names: tuple[str, ...]

    @property
    def levels(self) -> tuple[str, ...]:
        return self.names if self.kind == "hierarchy" else ()


@dataclass(frozen=True)
class Description:
    """What a row says of its image, path apart."""

    labels: tuple[str, ...]
    group: str | None
    timestamp: str | None
    weight: float | None
    given_split: str | None
    further: str | None
    """A JSON object of the other columns; None where there are none."""


def label_columns(names: Sequence[str], settings: IngestSettings, *, source: str) -> LabelColumns:
    """Which of the columns are the labels; raises DataError where that can't be told."""
    chosen = settings.label_columns
    if chosen is not None:
        for name in chosen:
            require_column(name, names, source=source)
        return LabelColumns("hierarchy" if len(chosen) > 1 else "single", tuple(chosen))
    if "labels" in names and "label" not in names:
        require_column("labels", names, source=source)
        return LabelColumns("multi", ("labels",))
    if "labels" in names:
        raise DataError(f"{source}: has a column label and a column labels; keep one of them")
    require_column("label", names, source=source)
    return LabelColumns("single", ("label",))


def require_column(name: str, names: Sequence[str], *, source: str) -> None:
    """Raises DataError unless the column stands there."""
    if name in names:
        return
    others = [other for other in names if other not in _OWN]
    similar = {other.strip().lower(): other for other in others}
    found = similar.get(name) or nearest(name, others).removeprefix("; did you mean ").rstrip("?")
    remedy = f"rename {found!r}" if found else "add it"
    if name == "label" and len(others) > 1 and not found:
        remedy = f"add it, or name the columns, such as --set 'ingest.label_columns=[{', '.join(others[:3])}]'"
    raise DataError(f"{source}: column {name} is missing; {remedy} (the columns are {', '.join(names)})")


def describe(
    row: Mapping[str, Any], columns: LabelColumns, settings: IngestSettings, split_of: Mapping[str, str], *, place: str
) -> Description:
    """`split_of` says which split a name means; `place` names the row in a sentence, such as `labels.csv: row 3`."""
    return Description(
        labels=_labels(row, columns, settings, place),
        group=_group(row.get("group"), place),
        timestamp=_timestamp(row.get("timestamp"), place),
        weight=_weight(row.get("weight"), place),
        given_split=_split(row.get("split"), split_of, place),
        further=_further(row, columns),
    )


def _further(row: Mapping[str, Any], columns: LabelColumns) -> str | None:
    others = {name: value for name, value in row.items() if name not in (*_OWN, *columns.names)}
    said = {
        name: value if isinstance(value, int | float) and not isinstance(value, bool) else text
        for name, value in others.items()
        if not isinstance(value, list | tuple | dict | bytes) and (text := _text(value)) and len(text) <= _LONGEST
    }
    return json.dumps(said, sort_keys=True, ensure_ascii=False) if said else None


def _labels(row: Mapping[str, Any], columns: LabelColumns, settings: IngestSettings, place: str) -> tuple[str, ...]:
    if columns.kind == "multi":
        return _label_set(row.get("labels"), settings, place)
    labels = tuple(_label(row.get(name), name, settings, place) for name in columns.names)
    if columns.kind == "hierarchy":
        _refuse_joint(labels, LEVEL_JOINT, place)
    return labels


def _label_set(value: Any, settings: IngestSettings, place: str) -> tuple[str, ...]:
    names = list(value) if isinstance(value, list | tuple) else (_text(value) or "").split(settings.separator)
    if not names or names == [""]:
        raise DataError(f"{place}: labels is empty; fill it or remove the row")
    labels = tuple(sorted({_label(name, "labels", settings, place) for name in names}))
    _refuse_joint(labels, SET_JOINT, place)
    return labels


def _refuse_joint(labels: tuple[str, ...], joint: str, place: str) -> None:
    for label in labels:
        if joint in label:
            raise DataError(f"{place}: the label {label!r} holds {joint!r}, which joins labels; use another sign")


def _label(value: Any, column: str, settings: IngestSettings, place: str) -> str:
    if isinstance(value, list | tuple | dict):
        shown = reprlib.repr(value)
        raise DataError(f"{place}: {column} is {shown}, should be one name (many go into a column labels)")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if (text := _text(value)) is None:
        raise DataError(f"{place}: the label in column {column} is empty; fill it or remove the row")
    if text.lower() in _NO_VALUE and text not in (settings.classes or ()):
        raise DataError(
            f"{place}: the label in column {column} is {text!r}, as an empty one is written; fill it or remove the "
            "row, or list the class in ingest.classes"
        )
    return text


def _group(value: Any, place: str) -> str | None:
    text = _text(value)
    if text is not None and text.lower() in _NO_VALUE:
        raise DataError(f"{place}: group is {text!r}, as an empty one is written; leave it empty, or name the group")
    return text


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() or None


def _split(value: Any, split_of: Mapping[str, str], place: str) -> str | None:
    if (text := _text(value)) is None:
        return None
    if text.lower() not in split_of:
        raise DataError(
            f"{place}: split {text!r} is none of {', '.join(split_of)}; mend it, or add it to split.fractions"
        )
    return split_of[text.lower()]


def _weight(value: Any, place: str) -> float | None:
    if (text := _text(value)) is None:
        return None
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise DataError(f"{place}: weight {text!r} should be a number of at least 0")
    return weight


def _timestamp(value: Any, place: str) -> str | None:
    if not isinstance(value, date):
        if (text := _text(value)) is None:
            return None
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise DataError(
                f"{place}: timestamp {text!r} should read as ISO 8601, such as 2026-05-31 or 2026-05-31T18:30:00Z"
            ) from None
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    # Without a zone it is taken as UTC: all of them must be comparable.
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except OverflowError:
        raise DataError(f"{place}: timestamp {value} lies outside the years 1 to 9999") from None
