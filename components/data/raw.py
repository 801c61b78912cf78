"""A version of the raw data: a manifest and a few large shards instead of a million small files.

    raw/manifest.parquet    a row a file, in order of path
    raw/images-00000.tar    the files' bytes as they came, an ordinary tar

A row says where its bytes lie (shard, offset, size), so that any image is one read away.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.errors import DataError

MANIFEST = "manifest.parquet"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("given_split", pa.string()),
        ("sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("problem", pa.string()),
    ]
)


@dataclass(frozen=True)
class RawFile:
    path: str
    label: str
    group: str | None
    given_split: str | None
    sha256: str | None
    size_bytes: int
    shard: str | None
    offset: int
    problem: str | None
    """Why the source could not give the file; such a row has no bytes."""


def read_manifest(folder: Path) -> list[RawFile]:
    return [RawFile(**row) for row in pq.read_table(folder / MANIFEST).to_pylist()]


class RawImages:
    """Reads the bytes of any image of a raw version; safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int] = {}

    def read(self, shard: str, offset: int, size_bytes: int) -> bytes:
        if shard not in self._handles:
            self._handles[shard] = os.open(self._folder / shard, os.O_RDONLY)
        content = os.pread(self._handles[shard], size_bytes, offset)
        if len(content) != size_bytes:
            raise DataError(f"{self._folder / shard}: ends early; restore the raw data with `dvc checkout`")
        return content

    def close(self) -> None:
        while self._handles:
            os.close(self._handles.popitem()[1])

    def __enter__(self) -> "RawImages":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
