"""What in a table looks as if it was meant otherwise: cells of several labels, a column of splits by another name."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from components.data.sources.column_choice import COLUMNS, LabelColumns, Renamed
from components.data.sources.settings import IngestSettings
from components.data.sources.source import SourceImage
from components.shared.errors import DataError
from components.shared.plural import Sentence

_SEPARATORS = (";", ",", "|", "/", "+", "&", " ")
_RARE_IN_NAMES = (";", ",", "|")


def table_notes(
    table: Renamed,
    columns: LabelColumns,
    images: Sequence[SourceImage],
    settings: IngestSettings,
    split_of: Mapping[str, str],
    source: str,
) -> list[Sentence]:
    """A warning each. Raises DataError where cells of `labels` clearly hold sets with another separator."""
    notes = _column_like_split(table, split_of, source)
    names = {label for image in images for label in image.labels}.difference(settings.classes or ())
    if columns.holds_sets and all(len(image.labels) < 2 for image in images):
        _refuse_other_separator(names, settings, source)
    if columns.names == ("label",):
        notes += _sets_in_label(names, settings, source)
    return notes


def _refuse_other_separator(names: set[str], settings: IngestSettings, source: str) -> None:
    if separator := _separator_of_sets(names, _SEPARATORS):
        example = min(name for name in names if separator in name)
        raise DataError(
            f"{source}: labels such as {example!r} seem to hold several names with {separator!r} between them, and "
            f"no cell holds {settings.separator!r}; --set 'ingest.separator=\"{separator}\"', or list the names in "
            "ingest.classes"
        )


def _sets_in_label(names: set[str], settings: IngestSettings, source: str) -> list[Sentence]:
    in_use = any(settings.separator in name for name in names)
    separator = settings.separator if in_use else _separator_of_sets(names, _RARE_IN_NAMES)
    if separator is None:
        return []
    example = min(name for name in names if separator in name)
    setting = "" if in_use else f" and set ingest.separator: {separator!r}"
    return [
        f"{source}: {example!r} in the column label counts as one class; if it means several, rename the column to "
        f"labels{setting}"
    ]


def _separator_of_sets(names: Iterable[str], separators: Iterable[str]) -> str | None:
    """The separator that makes few names of many: pieces come back, where a name with a blank mostly stands alone."""
    distinct = sorted(names)
    for separator in separators:
        with_it = [name for name in distinct if separator in name]
        pieces = Counter(piece.strip() for name in distinct for piece in name.split(separator))
        if with_it and len(pieces) < len(distinct) + (separator in _RARE_IN_NAMES):
            return separator
    return None


def _column_like_split(table: Renamed, split_of: Mapping[str, str], source: str) -> list[Sentence]:
    if "split" in table.names:
        return []
    for name in table.names:
        if name not in COLUMNS:
            cells = {str(row.get(name)).strip().lower() for row in table.rows}
            if len(cells) > 1 and cells <= set(split_of):
                return [
                    f"{source}: the column {name} holds {', '.join(sorted(cells))}, and is not read as the split; if "
                    f"it is one, rename it to split, or --set 'ingest.columns={{split: {name}}}'"
                ]
    return []
