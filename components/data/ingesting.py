"""Packing a source into a new version of the raw data."""

import hashlib
import io
import tarfile
from pathlib import Path

import pyarrow as pa

from components.data.raw import MANIFEST, SCHEMA, RawFile
from components.data.sources import Source
from components.data.tables import write_table
from components.progress import Progress, track

SHARD_BYTES = 256 << 20


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
    write_table(folder / MANIFEST, pa.Table.from_pylist([vars(row) for row in rows], schema=SCHEMA))
    return rows


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
        self._tar = tarfile.open(  # noqa: SIM115 - open for as long as the shard grows
            self._folder / self._name(), "w", format=tarfile.PAX_FORMAT
        )

    def _name(self) -> str:
        return f"images-{self._count - 1:05d}.tar"

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None
