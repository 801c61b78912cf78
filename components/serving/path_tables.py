"""The column `path` of a table that names images, one block or line after another."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from components.shared.errors import DataError, nearest

_BLOCK = 4096


def path_rows(stream: BinaryIO, name: str, ending: str) -> Iterator[Any]:
    """What each row holds for a path, or the DataError that says why it holds none.

    Raises DataError, which begins with the table's name, where the table itself can't be read.
    """
    return _ROWS[ending](stream, name)


def _csv_paths(stream: BinaryIO, name: str) -> Iterator[Any]:
    try:
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            _require_path(reader.fieldnames or (), name)
            for row in reader:
                yield row["path"]
    except UnicodeDecodeError:
        raise DataError(f"{name}: is not UTF-8 text; save it as such") from None
    except csv.Error as problem:
        raise DataError(f"{name}: can't be read as a table: {problem}; write it anew") from None


def _parquet_paths(stream: BinaryIO, name: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(stream)
        _require_path(table.schema_arrow.names, name)
        for block in table.iter_batches(batch_size=_BLOCK, columns=["path"]):
            yield from block.column(0).to_pylist()
    except (pa.ArrowInvalid, OSError) as problem:
        raise DataError(f"{name}: can't be read as a table: {' '.join(str(problem).split())}; write it anew") from None


def _json_paths(stream: BinaryIO, name: str) -> Iterator[Any]:
    """A line that holds no path gives the DataError that says so, for the lines behind it may be whole."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        # The second of lists in lists in lists.
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and "path" in row:
            yield row["path"]
        elif isinstance(row, dict):
            yield _no_path(row, f"line {number}")
        else:
            yield DataError(f'line {number} is no JSON object; write one such as {{"path": "a.jpg"}}')


def _require_path(names: Iterable[str], name: str) -> None:
    known = list(names)
    if "path" not in known:
        raise _no_path(known, name)


def _no_path(known: Iterable[str], name: str) -> DataError:
    return DataError(f"{name}: has no column path{nearest('path', known)}; add one that names an image a row")


_ROWS: dict[str, Callable[[BinaryIO, str], Iterator[Any]]] = {
    ".csv": _csv_paths,
    ".parquet": _parquet_paths,
    ".jsonl": _json_paths,
    ".ndjson": _json_paths,
}
TABLE_ENDINGS = tuple(_ROWS)
