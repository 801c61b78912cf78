"""The column `path` of a table that names images, read one block or line at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from components.shared.errors import DataError, nearest

_BLOCK_ROWS = 4096


def read_paths(stream: BinaryIO, name: str, extension: str) -> Iterator[Any]:
    """The path in each row, or a DataError that says why it has none.

    Raises DataError, which begins with the table's name, if the table itself can't be read.
    """
    return _READERS[extension](stream, name)


def _csv_paths(stream: BinaryIO, name: str) -> Iterator[Any]:
    try:
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            _require_path_column(reader.fieldnames or (), name)
            for row in reader:
                yield row["path"]
    except UnicodeDecodeError:
        raise DataError(f"{name}: is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as problem:
        raise DataError(f"{name}: can't be read as a table: {problem}; write it again") from None


def _parquet_paths(stream: BinaryIO, name: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(stream)
        _require_path_column(table.schema_arrow.names, name)
        for block in table.iter_batches(batch_size=_BLOCK_ROWS, columns=["path"]):
            yield from block.column(0).to_pylist()
    except (pa.ArrowInvalid, OSError) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{name}: can't be read as a table: {reason}; write it again") from None


def _json_paths(stream: BinaryIO, name: str) -> Iterator[Any]:
    """A bad line gives a DataError of its own, for the lines behind it may be good."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        # The second error is that of lists nested too deeply.
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and "path" in row:
            yield row["path"]
        elif isinstance(row, dict):
            yield _missing_path_column(row, f"line {number}")
        else:
            yield DataError(f'line {number} is no JSON object; write one such as {{"path": "a.jpg"}}')


def _require_path_column(columns: Iterable[str], name: str) -> None:
    known = list(columns)
    if "path" not in known:
        raise _missing_path_column(known, name)


def _missing_path_column(known: Iterable[str], name: str) -> DataError:
    return DataError(f"{name}: has no column path{nearest('path', known)}; add one with the path of each image")


_READERS: dict[str, Callable[[BinaryIO, str], Iterator[Any]]] = {
    ".csv": _csv_paths,
    ".parquet": _parquet_paths,
    ".jsonl": _json_paths,
    ".ndjson": _json_paths,
}
TABLE_EXTENSIONS = tuple(_READERS)
