"""A CSV, Parquet or JSON Lines table with a row per image: its path relative to the table, or its store address."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from components.data.files.folders import MISSING, Folder, LocalFolder, is_image, visible_entries
from components.data.files.object_stores import is_address, is_store_address, open_store
from components.data.files.path_tables import TABLE_EXTENSIONS
from components.data.images.decoding import IMAGE_ENDINGS
from components.data.sources.column_choice import LabelColumns, Renamed, label_columns, renamed
from components.data.sources.label_columns import read_row
from components.data.sources.left_out import NOT_NAMED
from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source, SourceImage
from components.data.sources.table_notes import table_notes
from components.shared.errors import DataError
from components.shared.plural import Sentence

_MAX_QUOTED = 60
"""Characters of a row that a message quotes."""


def is_table(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in TABLE_EXTENSIONS


def from_table(folder: Folder, name: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    """Reads the table `name` in the folder, which also holds the images that have no address.

    gs://bucket/a.jpg becomes the path gs/bucket/a.jpg of the data set. `split_of` maps a name in the column `split` to
    its split.
    """
    content = _content(folder, name)
    table, columns = _read(content, name, settings)
    images, row_of_path, stores = [], dict[str, int](), dict[str, Folder]()
    for number, row in enumerate(table.rows, start=1):
        row_name = f"{name}: row {number}"
        path, image_folder, inside = _locate(row.get("path"), row_name, folder, stores)
        if path in row_of_path:
            raise DataError(f"{row_name}: {path} is already in row {row_of_path[path]}; keep one of them")
        row_of_path[path] = number
        fields = vars(read_row(row, columns, settings, split_of, row_name=row_name))
        read = partial(image_folder.read, inside)
        images.append(SourceImage(path=path, read=read, problem=image_folder.problem_of(inside), **fields))
    images.sort(key=lambda image: image.path)
    left_out = dict.fromkeys(_not_named(folder, [path for path in row_of_path if not stores]), NOT_NAMED)
    notes = table_notes(table, columns, images, settings, split_of, name)
    return Source(images, columns.task, columns.levels, left_out, notes=notes, hint=_hint(folder, images))


def check_table(folder: Folder, name: str, settings: IngestSettings) -> None:
    """Raises DataError for a table that can't be read, or whose columns don't say where images and labels are."""
    _read(_content(folder, name), name, settings)


def _read(content: bytes, name: str, settings: IngestSettings) -> tuple[Renamed, LabelColumns]:
    names, rows = _rows_of(content, name)
    table = renamed(names, rows, settings, source=name)
    columns = label_columns(table.names, table.rows, settings, source=name, needs_path=True)
    if not rows:
        raise DataError(f"{name}: holds no rows, only the column names; add a row per image")
    return table, columns


def _hint(folder: Folder, images: list[SourceImage]) -> Sentence:
    """Where the first missing file may be: under its name with an ending, or in a folder beside the table."""
    missing = next((image.path for image in images if image.problem == MISSING), None)
    if missing is None:
        return ""
    for ending in IMAGE_ENDINGS:
        if not is_image(missing) and folder.type_of(missing + ending) == "file":
            return f"{missing}{ending} is there: add the ending to the paths"
    for name, is_folder in visible_entries(folder, ""):
        if is_folder and folder.type_of(f"{name}/{missing}") == "file":
            return f"{name}/{missing} is there: add {name}/ to the paths, or put the table into {name}"
    return ""


def _not_named(folder: Folder, named: list[str]) -> list[str]:
    """Images beside named ones that have no row; of stores, where looking costs a request a folder, none."""
    if not isinstance(folder, LocalFolder):
        return []
    known, beside = set(named), sorted({path.rpartition("/")[0] for path in named})
    return [
        path
        for below in beside
        if folder.type_of(below or ".") == "folder"
        for path, is_folder in visible_entries(folder, below)
        if not is_folder and is_image(path) and path not in known
    ]


def _content(folder: Folder, name: str) -> bytes:
    try:
        return folder.read(name)
    except OSError as problem:
        raise DataError(f"{name}: can't be read: {problem.strerror or 'no such file'}") from None


def _locate(value: Any, row_name: str, table_folder: Folder, stores: dict[str, Folder]) -> tuple[str, Folder, str]:
    """The path in the data set, the folder that holds the file, and its path in there; `stores` caches open folders."""
    text = "" if value is None else str(value)
    if not is_address(text):
        path = path_inside(text, row_name, table_folder.name)
        return path, table_folder, path
    if not is_store_address(text):
        raise DataError(
            f"{row_name}: {text!r} is no address of a store, such as s3://, gs:// or az://; give a path or such "
            "an address"
        )
    folder, _, name = text.rpartition("/")
    if folder not in stores:
        stores[folder] = open_store(folder)
    return path_inside(text.replace("://", "/", 1), row_name, table_folder.name), stores[folder], name


def path_inside(value: Any, row_name: str, folder: str) -> str:
    """The path with single forward slashes; raises DataError for one that is no path inside the folder."""
    text = "" if value is None else str(value)
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise DataError(f"{row_name}: {text!r} isn't a path inside {folder}; make it relative to that folder")
    if "\\" in text or any(ord(character) < 32 for character in text):
        raise DataError(f"{row_name}: the path {text!r} holds backslashes or control characters; use forward slashes")
    return path.as_posix()


def _rows_of(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    if not content.strip():
        raise DataError(f"{name}: is empty; it needs a column path, a column label, and a row per image")
    ending = PurePosixPath(name).suffix.lower()
    if ending == ".csv":
        return _csv_rows(content, name)
    return _parquet_rows(content, name) if ending == ".parquet" else _json_rows(content, name)


def _csv_rows(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.csv

    text = _text_of(content, name)
    _refuse_other_separator(text, name)
    ragged: list[Any] = []

    def refuse(row: Any) -> str:
        ragged.append(row)
        return "error"

    # Line breaks inside quotes are legal in CSV. Every column is text, for a label such as 007 is a name.
    layout = pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse)
    in_order = pyarrow.csv.ReadOptions(use_threads=False)  # with threads, an error has no row number
    try:
        names = _header(text)
        as_text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        table = pyarrow.csv.read_csv(io.BytesIO(content), in_order, layout, as_text)
    except (pa.ArrowInvalid, csv.Error) as problem:
        if not ragged:
            raise DataError(f"{name}: can't be read as a table ({one_line(problem)}); fix its quotes") from None
        row = ragged[0]
        raise DataError(
            f"{name}: row {row.number - 1} holds {row.actual_columns} values for {row.expected_columns} columns "
            f"({row.text[:_MAX_QUOTED]!r}); fix its commas and quotes"
        ) from None
    _refuse_repeated(names, name)
    return names, table.to_pylist()


def _header(text: str) -> list[str]:
    """The column names; Arrow's reader of blocks would leave a thread behind, which can abort a process that ends."""
    lines = io.StringIO(text.lstrip("\r\n"), newline="")
    return next(csv.reader(lines))


def _refuse_other_separator(text: str, name: str) -> None:
    header = text.lstrip().partition("\n")[0]
    for separator in (";", "\t", "|"):
        if separator in header and "," not in header:
            raise DataError(f"{name}: its columns are separated by {separator!r}; save it with commas")


def _refuse_repeated(names: list[str], source: str) -> None:
    for column, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{source}: column {column or 'without a name'} occurs {count} times; keep one")


def _parquet_rows(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowInvalid, OSError) as problem:
        raise DataError(f"{name}: is no complete Parquet file ({one_line(problem)}); copy or write it again") from None
    _refuse_repeated(table.column_names, name)
    try:
        return table.column_names, table.to_pylist()
    except (OverflowError, ValueError) as problem:
        raise DataError(
            f"{name}: holds a time outside the years 1 to 9999 ({one_line(problem)}); fix it or leave it out"
        ) from None


def _json_rows(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    rows, names = [], dict[str, None]()
    # Only at line feeds: a text may contain other line separators.
    for number, line in enumerate(_text_of(content, name).split("\n"), start=1):
        if not line.strip():
            continue
        row = json_object(line, f"{name}: line {number}")
        names.update(dict.fromkeys(row))
        rows.append(row)
    return list(names), rows


def _text_of(content: bytes, name: str) -> str:
    """Raises DataError for bytes that are no UTF-8, and for zero bytes, which are a sign of UTF-16."""
    wrong = content.find(b"\0")
    if wrong < 0:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            wrong = problem.start
    line = 1 + content.count(b"\n", 0, wrong)
    raise DataError(f"{name}: line {line} is not UTF-8 text; save the table as UTF-8")


def one_line(problem: Exception) -> str:
    """The error's message without line breaks; its type if it has none."""
    return " ".join(str(problem).split()) or type(problem).__name__


def json_object(text: str, row_name: str) -> dict[str, Any]:
    """Raises DataError for anything but an object, and for one with a repeated key."""

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                raise DataError(f"{row_name}: {key} occurs {count} times; keep one")
        return dict(pairs)

    try:
        row = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as problem:
        raise DataError(f"{row_name}: is no JSON: {problem.msg} at character {problem.pos + 1}; fix it") from None
    except (ValueError, RecursionError):  # Python limits digits and nesting
        raise DataError(f"{row_name}: has too long a number or too deep a nesting to be read; shorten it") from None
    if not isinstance(row, dict):
        raise DataError(f'{row_name}: should be an object such as {{"path": "a.jpg", "label": "cat"}}')
    return row
