"""Labels, group, time, split and weight from a row of a table or a record of a tar shard.

Numbers are names here: the label 7 is the class `7`, in every type of table. Fractions such as 0.25 name no class.
"""

import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from components.data.sources.column_choice import COLUMNS, IS_ONE, LabelColumns
from components.data.sources.settings import IngestSettings
from components.shared.errors import DataError
from components.task.label_text import PATH_SEPARATOR, SET_SEPARATOR

_MISSING_VALUES = ("nan", "<na>", "nat", "none", "null")
"""How pandas and databases write an empty cell of a column that they turned into text."""
_LIST = re.compile(r"""\[\s*(?:(['"])(.*?)\1[\s,]*)*\]""")
"""A list of texts as Python, JSON and numpy write it into a cell."""
_LISTED = re.compile(r"""(['"])(.*?)\1""")
_MAX_LENGTH = 100
"""A longer text in another column identifies an image rather than a slice of them."""


@dataclass(frozen=True)
class RowFields:
    """Everything in a row but the path."""

    labels: tuple[str, ...]
    group: str | None
    timestamp: str | None
    weight: float | None
    given_split: str | None
    further: str | None
    """The other columns as a JSON object; None if there are none."""


def read_row(
    row: Mapping[str, Any],
    columns: LabelColumns,
    settings: IngestSettings,
    split_of: Mapping[str, str],
    *,
    row_name: str,
) -> RowFields:
    """`split_of` maps a name to its split; `row_name` is the row's name in messages, such as `labels.csv: row 3`."""
    return RowFields(
        labels=_labels(row, columns, settings, row_name),
        group=_group(row.get("group"), row_name),
        timestamp=_timestamp(row.get("timestamp"), row_name),
        weight=_weight(row.get("weight"), row_name),
        given_split=_split(row.get("split"), split_of, row_name),
        further=_further(row, columns),
    )


def _further(row: Mapping[str, Any], columns: LabelColumns) -> str | None:
    others = {name: value for name, value in row.items() if name not in (*COLUMNS, *columns.names)}
    shown = {
        name: value if isinstance(value, int | float) and not isinstance(value, bool) else text
        for name, value in others.items()
        if not isinstance(value, list | tuple | dict | bytes) and (text := _text(value)) and len(text) <= _MAX_LENGTH
    }
    return json.dumps(shown, sort_keys=True, ensure_ascii=False) if shown else None


def _labels(row: Mapping[str, Any], columns: LabelColumns, settings: IngestSettings, row_name: str) -> tuple[str, ...]:
    if columns.one_hot:
        return tuple(sorted(name for name in columns.names if _is_one(row.get(name), name, row_name)))
    if columns.holds_sets:
        return _label_set(row.get("labels"), settings, row_name)
    labels = tuple(_label(row.get(name), name, settings, row_name) for name in columns.names)
    if columns.levels:
        _refuse_separator(labels, PATH_SEPARATOR, row_name)
    return labels


def _label_set(value: Any, settings: IngestSettings, row_name: str) -> tuple[str, ...]:
    """No label where the cell is empty: the image is an example of none."""
    names = _listed(value, settings.separator)
    labels = tuple(sorted({_label(name, "labels", settings, row_name) for name in names}))
    _refuse_separator(labels, SET_SEPARATOR, row_name)
    return labels


def _listed(value: Any, separator: str) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if (text := _text(value)) is None:
        return []
    return [name for _, name in _LISTED.findall(text)] if _LIST.fullmatch(text) else text.split(separator)


def _is_one(value: Any, column: str, row_name: str) -> bool:
    text = _text(value)
    if text is not None and text.lower() not in IS_ONE:
        raise DataError(
            f"{row_name}: {column} is {text!r}, should be 0 or 1 (an empty cell counts as 0), for ingest.one_hot names "
            "the column"
        )
    return text is not None and IS_ONE[text.lower()]


def _refuse_separator(labels: tuple[str, ...], separator: str, row_name: str) -> None:
    for label in labels:
        if separator in label:
            raise DataError(
                f"{row_name}: the label {label!r} holds {separator!r}, which separates labels; use another character"
            )


def _label(value: Any, column: str, settings: IngestSettings, row_name: str) -> str:
    if isinstance(value, list | tuple | dict):
        shown = reprlib.repr(value)
        raise DataError(f"{row_name}: {column} is {shown}, should be one name (several names go into a column labels)")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if (text := _text(value)) is None:
        raise DataError(f"{row_name}: the label in column {column} is empty; fill it or remove the row")
    if text.lower() in _MISSING_VALUES and text not in (settings.classes or ()):
        raise DataError(
            f"{row_name}: the label in column {column} is {text!r}, which stands for an empty cell; "
            f"{'leave it empty where the image has no label' if column == 'labels' else 'fill it or remove the row'}, "
            "or list the class in ingest.classes"
        )
    return text


def _group(value: Any, row_name: str) -> str | None:
    text = _text(value)
    if text is not None and text.lower() in _MISSING_VALUES:
        raise DataError(
            f"{row_name}: group is {text!r}, which stands for an empty cell; leave it empty, or name the group"
        )
    return text


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() or None


def _split(value: Any, split_of: Mapping[str, str], row_name: str) -> str | None:
    if (text := _text(value)) is None:
        return None
    if text.lower() not in split_of:
        raise DataError(
            f"{row_name}: split {text!r} is none of {', '.join(split_of)}; fix it, or add it to split.fractions"
        )
    return split_of[text.lower()]


def _weight(value: Any, row_name: str) -> float | None:
    if (text := _text(value)) is None:
        return None
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise DataError(f"{row_name}: weight {text!r} should be a number of at least 0")
    return weight


def _timestamp(value: Any, row_name: str) -> str | None:
    if not isinstance(value, date):
        if (text := _text(value)) is None:
            return None
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise DataError(
                f"{row_name}: timestamp {text!r} should be ISO 8601, such as 2026-05-31 or 2026-05-31T18:30:00Z"
            ) from None
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    # Without a time zone it counts as UTC, so that all timestamps can be compared.
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except OverflowError:
        raise DataError(f"{row_name}: timestamp {value} lies outside the years 1 to 9999") from None
