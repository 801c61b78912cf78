"""Which columns of a table, or fields of a tar shard's records, hold what; and what to type where that is unclear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from components.data.files.folders import is_image
from components.data.sources.settings import ColumnName, IngestSettings
from components.shared.errors import DataError, nearest
from components.shared.plural import Sentence

COLUMNS: tuple[str, ...] = get_args(ColumnName)
IS_ONE = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""What a cell of a one-hot column may hold, in small letters."""
_OTHER_NAMES = {
    "path": (
        *("filename", "filenames", "file_name", "file", "filepath", "file_path", "fn", "image", "image_path"),
        *("image_name", "img", "image_id", "id"),
    ),
    "label": ("class", "class_name", "category", "target", "species", "diagnosis", "y"),
    "labels": ("classes", "tags", "categories", "targets", "finding labels"),
}
"""What other tables call these columns."""
_SHOWN = 6

Row = Mapping[str, Any]


@dataclass(frozen=True)
class LabelColumns:
    task: str
    """Name of the label type."""
    names: tuple[str, ...]
    levels: tuple[str, ...] = ()
    """Names of a hierarchy's levels, from the coarsest to the finest."""
    holds_sets: bool = False
    """Whether one cell holds any number of labels."""
    one_hot: bool = False
    """Whether each column is a class and holds 0 or 1."""


def renamed(names: Sequence[str], rows: Sequence[Row], settings: IngestSettings, *, source: str) -> "Renamed":
    """The columns and rows with the names that ingest.columns gives; raises DataError for one that isn't there."""
    new_name = {theirs: ours for ours, theirs in (settings.columns or {}).items()}
    for theirs in new_name:
        if theirs not in names:
            known = nearest(theirs, names) or f" (the columns are {', '.join(names)})"
            raise DataError(f"{source}: ingest.columns names {theirs!r}, which is none of its columns{known}")
    if clash := set(new_name.values()).intersection(names).difference(new_name):
        ours = min(clash)
        raise DataError(f"{source}: has a column {ours}, and ingest.columns names another one for it; drop one of them")
    if not new_name:
        return Renamed(names, rows)
    return Renamed(
        [new_name.get(name, name) for name in names],
        [{new_name.get(name, name): value for name, value in row.items()} for row in rows],
    )


@dataclass(frozen=True)
class Renamed:
    names: Sequence[str]
    rows: Sequence[Row]


def label_columns(
    names: Sequence[str], rows: Sequence[Row], settings: IngestSettings, *, source: str, needs_path: bool = False
) -> LabelColumns:
    """The columns that hold the labels; raises DataError if they, or a needed column path, are missing or ambiguous."""
    chosen, wanted = settings.label_columns, ["path"] if needs_path else []
    if chosen is not None:
        _require([*wanted, *chosen], names, rows, source)
        several = len(chosen) > 1
        return LabelColumns("hierarchy" if several else "single_label", tuple(chosen), tuple(chosen) if several else ())
    if settings.one_hot is not None:
        return _one_hot(settings.one_hot, wanted, names, rows, source)
    if "labels" in names and "label" in names:
        raise DataError(f"{source}: has a column label and a column labels; keep one of them")
    if "labels" in names:
        _require(wanted, names, rows, source)
        return LabelColumns("multi_label", ("labels",), holds_sets=True)
    _require([*wanted, "label"], names, rows, source)
    return LabelColumns("single_label", ("label",))


def _one_hot(
    chosen: list[str] | str, wanted: list[str], names: Sequence[str], rows: Sequence[Row], source: str
) -> LabelColumns:
    columns = _found_one_hot(names, rows) if isinstance(chosen, str) else chosen
    _require([*wanted, *columns], names, rows, source)
    if len(columns) < 2:
        raise DataError(f"{source}: has fewer than two columns of 0 and 1; name them in ingest.one_hot")
    exclusive = all(sum(IS_ONE.get(_cell(row.get(name)), False) for name in columns) == 1 for row in rows)
    return LabelColumns("single_label" if exclusive else "multi_label", tuple(columns), one_hot=True)


def _found_one_hot(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The columns that hold 0 and 1 alone, and at least one 1."""
    found = []
    for name in names:
        if name not in COLUMNS:
            cells = {_cell(row.get(name)) for row in rows}
            if cells.issubset({*IS_ONE, ""}) and any(IS_ONE.get(cell) for cell in cells):
                found.append(name)
    return found


def _cell(value: Any) -> str:
    return "" if value is None or isinstance(value, list | dict) else str(value).strip().lower()


def _require(wanted: Sequence[str], names: Sequence[str], rows: Sequence[Row], source: str) -> None:
    missing = [name for name in wanted if name not in names]
    if not missing:
        return
    if data := next((name for name in names if is_image(name)), None):
        raise DataError(
            f"{source}: its first line should name the columns, and holds {data!r}; begin it with a line such as "
            "path,label"
        )
    similar = {name: found for name in missing if (found := _similar(name, names))}
    first = missing[0]
    columns = f"(the columns are {', '.join(map(repr, names))})"
    if first == "label" and first not in similar:
        raise DataError(f"{source}: column label is missing; {_other_labels(names, rows)} {columns}")
    if first not in similar:
        remedy = f"add it, or name the column that holds it, such as --set 'ingest.columns={{{first}: COLUMN}}'"
        raise DataError(f"{source}: column {first} is missing; {remedy if first in COLUMNS else 'add it'} {columns}")
    pairs = ", ".join(f"{ours}: {_yaml(theirs)}" for ours, theirs in similar.items())
    rename = " and ".join(f"{theirs!r} to {ours}" for ours, theirs in similar.items())
    as_setting = f", or --set 'ingest.columns={{{pairs}}}'" if set(similar) <= set(COLUMNS) else ""
    raise DataError(
        f"{source}: column{'s' if len(similar) > 1 else ''} {' and '.join(similar)} "
        f"{'are' if len(similar) > 1 else 'is'} missing; rename {rename}{as_setting} {columns}"
    )


def _similar(name: str, names: Sequence[str]) -> str | None:
    """The column that seems to be meant: in other case, called otherwise, misspelt, or the only one left."""
    others = {other.strip().lower(): other for other in names if other not in COLUMNS}
    for known in (name, *_OTHER_NAMES.get(name, ())):
        if known in others:
            return others[known]
    return nearest(name, others.values()).removeprefix("; did you mean ").removesuffix("?") or None


def _other_labels(names: Sequence[str], rows: Sequence[Row]) -> Sentence:
    """What to type where no column looks like that of the labels."""
    if sets := next((name for name in names if name.strip().lower() in ("labels", *_OTHER_NAMES["labels"])), None):
        return f"rename {sets!r} to labels, or --set 'ingest.columns={{labels: {_yaml(sets)}}}'"
    one_hot = _found_one_hot(names, rows)
    if len(one_hot) > 1:
        listed = "auto" if len(one_hot) > _SHOWN else f"[{', '.join(map(_yaml, one_hot))}]"
        shown = f"{', '.join(one_hot[:_SHOWN])}{', …' if len(one_hot) > _SHOWN else ''}"
        return (
            f"{len(one_hot)} columns ({shown}) hold 0 and 1 alone: if each is a class, --set 'ingest.one_hot={listed}'"
        )
    others = [name for name in names if name not in COLUMNS]
    if len(others) == 1:
        return f"rename {others[0]!r} to label, or --set 'ingest.columns={{label: {_yaml(others[0])}}}'"
    if not others:
        return "add it"
    return (
        f"add it, or name the column that holds it, such as --set 'ingest.columns={{label: {_yaml(others[-1])}}}', or "
        f"the levels of a hierarchy, such as --set 'ingest.label_columns=[{', '.join(map(_yaml, others[:3]))}]'"
    )


def _yaml(name: str) -> str:
    """The name as a value in a flow of YAML."""
    return name if name.replace("_", "").replace(" ", "").isalnum() and not name[0].isdigit() else f'"{name}"'
