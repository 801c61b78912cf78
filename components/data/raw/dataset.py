"""A version of the raw data: a manifest and a few large shards instead of a million small files.

    raw/manifest.parquet    a row a file, in order of path; in `further` what else a table says of it
    raw/dataset.json        label type (single_label, multi_label or hierarchy) and the names of a hierarchy's levels
    raw/images-00000.tar    the files' bytes as they came, an ordinary tar whose members are named by their SHA-256

A row says where its bytes lie (shard, offset, size), so that any image is one read away. Equal bytes are stored once.
A shard never changes once it is written: a grown version keeps it and appends others.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.errors import DataError
from components.shared.files import read_json

MANIFEST = "manifest.parquet"
DATASET = "dataset.json"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("group", pa.string()),
        ("timestamp", pa.string()),
        ("weight", pa.float64()),
        ("given_split", pa.string()),
        ("sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("problem", pa.string()),
        ("ingest_id", pa.int64()),
    ]
)


FURTHER = pa.field("further", pa.string())
"""A column that a version has where its source says more of an image than the columns above."""


@dataclass(frozen=True)
class RawFile:
    path: str
    label: str
    """The text key of the labels: a hierarchy's joined by "/", a set's by "|"."""
    labels: list[str]
    """One; or a sorted set; or a hierarchy's, from the coarsest to the finest."""
    group: str | None
    timestamp: str | None
    """ISO 8601 in UTC."""
    weight: float | None
    given_split: str | None
    sha256: str | None
    size_bytes: int
    shard: str | None
    offset: int
    problem: str | None
    """Why the source could not give the file; such a row has no bytes."""
    ingest_id: int
    """The ingest that brought this row, counted from 0; a renamed file keeps it, a further copy has its own."""
    further: str | None = None
    """A JSON object by column of what else the source says of the image."""


@dataclass(frozen=True)
class RawDataset:
    task: str
    """Name of the label type: single_label, multi_label or hierarchy."""
    levels: list[str]
    """Names of a hierarchy's levels, from the coarsest to the finest; else empty."""


def read_manifest(folder: Path) -> list[RawFile]:
    return raw_files(read_manifest_table(folder))


def read_manifest_table(folder: Path) -> pa.Table:
    """The manifest's columns: those of SCHEMA, and FURTHER where its source says more."""
    table = pq.read_table(folder / MANIFEST)
    if missing := set(SCHEMA.names) - set(table.column_names):
        raise DataError(
            f"{folder / MANIFEST}: without {', '.join(sorted(missing))}, by an older release; ingest the data again"
        )
    return table


def raw_files(manifest: pa.Table) -> list[RawFile]:
    if FURTHER.name not in manifest.column_names:
        manifest = manifest.append_column(FURTHER, pa.nulls(len(manifest), FURTHER.type))
    columns = [manifest[name].to_pylist() for name in RawFile.__annotations__]
    return [RawFile(*row) for row in zip(*columns, strict=True)]


def read_raw_dataset(folder: Path) -> RawDataset:
    return RawDataset(**read_json(folder / DATASET))


class RawImages:
    """Reads the bytes of any image of a raw version; safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}
        self._opening = Lock()

    def read(self, shard: str, offset: int, size_bytes: int) -> bytes:
        content = os.pread(self._handle(shard), size_bytes, offset)
        if len(content) != size_bytes:
            raise DataError(f"{self._folder / shard}: ends early; restore the raw data with `dvc checkout`")
        return content

    def _handle(self, shard: str) -> int:
        with self._opening:
            if shard not in self._handles:
                self._handles[shard] = os.open(self._folder / shard, os.O_RDONLY)
            return self._handles[shard]

    def close(self) -> None:
        while self._handles:
            os.close(self._handles.popitem()[1])

    def __enter__(self) -> "RawImages":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
