"""A version of the raw data: a manifest and a few large shards instead of a million small files.

    raw/manifest.parquet    one row for each file, sorted by path; further columns of a source table in `further`
    raw/dataset.json        label type (single_label, multi_label or hierarchy) and the names of a hierarchy's levels
    raw/images-00000.tar    the files' unchanged bytes, an ordinary tar whose members are named by their SHA-256

A row has the location of its bytes (shard, offset, size), so that any image is one read away. Equal bytes are stored
once. A shard never changes after it is written: a later version keeps it and appends others.
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
"""Optional column: what the source table says of an image beyond the columns above."""


@dataclass(frozen=True)
class RawFile:
    path: str
    label: str
    """All labels as one text: those of a hierarchy joined by "/", those of multi-label data by "|"."""
    labels: list[str]
    """One label; several sorted ones in multi-label data; in a hierarchy one for each level, the coarsest first."""
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
    """Reason why the source could not provide the file; such a row has no bytes."""
    ingest_id: int
    """Number of the ingest that added the row, from 0; a renamed file keeps it, a new copy gets the current one."""
    further: str | None = None
    """JSON object with the image's values in the further columns of the source table."""


@dataclass(frozen=True)
class RawDataset:
    task: str
    """Name of the label type: single_label, multi_label or hierarchy."""
    levels: list[str]
    """Names of a hierarchy's levels, the coarsest first; else empty."""


def read_manifest(folder: Path) -> list[RawFile]:
    return raw_files(read_manifest_table(folder))


def read_manifest_table(folder: Path) -> pa.Table:
    """The manifest, with the columns of SCHEMA and perhaps FURTHER."""
    return pq.read_table(folder / MANIFEST)


def raw_files(manifest: pa.Table) -> list[RawFile]:
    if FURTHER.name not in manifest.column_names:
        manifest = manifest.append_column(FURTHER, pa.nulls(len(manifest), FURTHER.type))
    columns = [manifest[name].to_pylist() for name in RawFile.__annotations__]
    return [RawFile(*row) for row in zip(*columns, strict=True)]


def read_raw_dataset(folder: Path) -> RawDataset:
    return RawDataset(**read_json(folder / DATASET))


class RawImages:
    """Reads the bytes of any image of a version of the raw data; safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}
        self._opening = Lock()

    def read(self, shard: str, offset: int, size_bytes: int) -> bytes:
        content = os.pread(self._handle(shard), size_bytes, offset)
        if len(content) != size_bytes:
            raise DataError(f"{self._folder / shard}: is cut short; restore the raw data with `dvc checkout`")
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
