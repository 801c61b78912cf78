"""A version of the raw data: a manifest and a few large shards instead of a million small files.

    raw/manifest.parquet    a row a file, in order of path
    raw/images-00000.tar    the files' bytes as they came, an ordinary tar

A row says where its bytes lie (shard, offset, size), so that any image is one read away.
"""

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.sources import Source
from components.errors import DataError
from components.files import whole_file
from components.progress import Progress, track

MANIFEST = "manifest.parquet"
SHARD_BYTES = 256 << 20

_SCHEMA = pa.schema(
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


def write_raw(source: Source, folder: Path, *, progress: Progress) -> list[RawFile]:
    """Packs the source into `folder`. Equal sources give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = _ShardWriter(folder)
    rows = []
    for image in track(source.images, task="ingest", total=len(source.images), progress=progress):
        common = (image.path, image.label, image.group, image.given_split)
        problem = image.problem
        if problem is None:
            try:
                content = image.read()
            except OSError as error:
                problem = f"can't be read: {error.strerror}"
        if problem is not None:
            rows.append(RawFile(*common, None, 0, None, 0, problem))
            continue
        shard, offset = shards.add(image.path, content)
        rows.append(RawFile(*common, hashlib.sha256(content).hexdigest(), len(content), shard, offset, None))
    shards.close()
    write_table(folder / MANIFEST, pa.Table.from_pylist([vars(row) for row in rows], schema=_SCHEMA))
    return rows


def read_manifest(folder: Path) -> list[RawFile]:
    return [RawFile(**row) for row in pq.read_table(folder / MANIFEST).to_pylist()]


def write_table(target: Path, table: pa.Table) -> None:
    with whole_file(target) as draft:
        pq.write_table(table, draft, compression="zstd")


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


class _ShardWriter:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, path: str, content: bytes) -> tuple[str, int]:
        """The shard's name and the offset of the first byte of the content in it."""
        if self._tar is None or self._tar.offset > SHARD_BYTES:
            self._start()
        assert self._tar is not None
        entry = tarfile.TarInfo(path)  # time, owner and mode stay at fixed values
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))
        padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self._name(), self._tar.offset - padded

    def _start(self) -> None:
        self.close()
        self._count += 1
        self._tar = tarfile.open(self._folder / self._name(), "w", format=tarfile.PAX_FORMAT)

    def _name(self) -> str:
        return f"images-{self._count - 1:05d}.tar"

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None
