"""A CSV, Parquet or JSON Lines table: a row an image, its path relative to the table or its address in a store."""

import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from components.data.sources.label_columns import describe, label_columns, require_column
from components.data.sources.locations import Place, is_remote, is_store_address, remote_folder
from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source, SourceImage
from components.shared.errors import DataError

TABLE_ENDINGS = (".csv", ".parquet", ".jsonl", ".ndjson")
_SHOWN = 60
"""Signs of a row that a sentence about it quotes."""


def is_table(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in TABLE_ENDINGS


def from_table(place: Place, name: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    """Reads the table `name` of the folder `place`, in which the images lie too, but for those with an address.

    gs://bucket/a.jpg is the path gs/bucket/a.jpg of the data set. `split_of` says which split a name in the column
    `split` means.
    """
    try:
        content = place.reader(name)()
    except OSError as problem:
        raise DataError(f"{name}: can't be read: {problem.strerror or 'no such file'}") from None
    names, rows = _rows_of(content, name)
    require_column("path", names, source=name)
    columns = label_columns(names, settings, source=name)
    if not rows:
        raise DataError(f"{name}: holds no rows, only the names of columns; add a row an image")
    images, seen, stores = [], dict[str, int](), dict[str, Place]()
    for number, row in enumerate(rows, start=1):
        where = f"{name}: row {number}"
        path, its_place, inside = _located(row.get("path"), where, place, stores)
        if path in seen:
            raise DataError(f"{where}: {path} stands in row {seen[path]} already; keep one of them")
        seen[path] = number
        said = describe(row, columns, settings, split_of, place=where)
        images.append(
            SourceImage(path=path, read=its_place.reader(inside), problem=its_place.problem_of(inside), **vars(said))
        )
    return Source(sorted(images, key=lambda image: image.path), columns.kind, columns.levels)


def _located(value: Any, where: str, place: Place, stores: dict[str, Place]) -> tuple[str, Place, str]:
    """The path in the data set, the folder that holds the file, and its path there; `stores` keeps opened folders."""
    text = "" if value is None else str(value)
    if not is_remote(text):
        path = path_inside(text, where, place.name)
        return path, place, path
    if not is_store_address(text):
        raise DataError(
            f"{where}: {text!r} is no address of a store, such as s3://, gs:// or az://; give a path or one"
        )
    folder, _, name = text.rpartition("/")
    if folder not in stores:
        stores[folder] = remote_folder(folder)
    return path_inside(text.replace("://", "/", 1), where, place.name), stores[folder], name


def path_inside(value: Any, where: str, folder: str) -> str:
    """The path with single forward slashes; raises DataError for one that is no path inside the folder."""
    text = "" if value is None else str(value)
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise DataError(f"{where}: {text!r} isn't a path inside {folder}; make it relative to there")
    if "\\" in text or any(ord(sign) < 32 for sign in text):
        raise DataError(f"{where}: the path {text!r} holds backslashes or control signs; write it with forward slashes")
    return path.as_posix()


def _rows_of(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    if not content.strip():
        raise DataError(f"{name}: is empty; it needs a column path and a column label, and a row an image")
    ending = PurePosixPath(name).suffix.lower()
    if ending == ".csv":
        return _csv_rows(content, name)
    return _parquet_rows(content, name) if ending == ".parquet" else _json_rows(content, name)


def _csv_rows(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.csv

    _refuse_other_separator(_text_of(content, name), name)
    ragged: list[Any] = []

    def refuse(row: Any) -> str:
        ragged.append(row)
        return "error"

    # Line breaks inside quotes are legal in CSV; every column is text, for a label such as 007 is a name.
    layout = pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse)
    in_order = pyarrow.csv.ReadOptions(use_threads=False)  # several threads don't know the number of a row
    try:
        names = pyarrow.csv.open_csv(io.BytesIO(content), in_order, layout).schema.names
        as_text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        table = pyarrow.csv.read_csv(io.BytesIO(content), in_order, layout, as_text)
    except pa.ArrowInvalid as problem:
        if not ragged:
            raise DataError(f"{name}: can't be read as a table ({_said(problem)}); mend its quotes") from None
        row = ragged[0]
        raise DataError(
            f"{name}: row {row.number - 1} holds {row.actual_columns} values for {row.expected_columns} columns "
            f"({row.text[:_SHOWN]!r}); mend its commas and quotes"
        ) from None
    _refuse_repeated(names, name)
    return names, table.to_pylist()


def _refuse_other_separator(text: str, name: str) -> None:
    header = text.lstrip().partition("\n")[0]
    for separator in (";", "\t", "|"):
        if separator in header and "," not in header:
            raise DataError(f"{name}: its columns are separated by {separator!r}; save it with commas")


def _refuse_repeated(names: list[str], source: str) -> None:
    for column, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{source}: column {column or 'without a name'} stands there {count} times; keep one")


def _parquet_rows(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowInvalid, OSError) as problem:
        raise DataError(f"{name}: is no whole Parquet file ({_said(problem)}); copy or write it again") from None
    _refuse_repeated(table.column_names, name)
    try:
        return table.column_names, table.to_pylist()
    except (OverflowError, ValueError) as problem:
        raise DataError(
            f"{name}: holds a time outside the years 1 to 9999 ({_said(problem)}); mend or leave it out"
        ) from None


def _json_rows(content: bytes, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    rows, names = [], dict[str, None]()
    # At line feeds alone: other separators of lines may stand inside of a text.
    for number, line in enumerate(_text_of(content, name).split("\n"), start=1):
        if not line.strip():
            continue
        row = json_object(line, f"{name}: line {number}")
        names.update(dict.fromkeys(row))
        rows.append(row)
    return list(names), rows


def _text_of(content: bytes, name: str) -> str:
    """Raises DataError for what is no UTF-8, and for zero bytes, which are the mark of UTF-16."""
    wrong = content.find(b"\0")
    if wrong < 0:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            wrong = problem.start
    line = 1 + content.count(b"\n", 0, wrong)
    raise DataError(f"{name}: line {line} is not UTF-8 text; save the table as such")


def _said(problem: Exception) -> str:
    return " ".join(str(problem).split())


def json_object(text: str, where: str) -> dict[str, Any]:
    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                raise DataError(f"{where}: {key} stands there {count} times; keep one")
        return dict(pairs)

    try:
        row = json.loads(text, object_pairs_hook=each_once)
    except json.JSONDecodeError as problem:
        raise DataError(f"{where}: is no JSON: {problem.msg} at sign {problem.pos + 1}; mend it") from None
    except (ValueError, RecursionError):  # of the numbers' digits and the nesting, Python takes only so many
        raise DataError(f"{where}: holds a number or a nesting that is too long to be read; shorten it") from None
    if not isinstance(row, dict):
        raise DataError(f'{where}: should be an object such as {{"path": "a.jpg", "label": "cat"}}')
    return row
