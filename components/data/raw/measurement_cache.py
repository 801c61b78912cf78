"""The cache of measurements: outcomes by key in an SQLite file, stored as whole Arrow batches.

It may be deleted at any time. A cache that can't be read or written is skipped: measuring again gives the same.
"""

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.images.measurement import Measurement
from components.data.images.perceptual_hash import COLOUR_SIDE, SIDE

_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
_TYPE_OF = {
    "hash": pa.uint64(),
    "mirror_hash": pa.uint64(),
    "thumbnail": pa.binary(SIDE**2),
    "colours": pa.binary(3 * COLOUR_SIDE**2),
}
OUTCOMES = pa.schema(
    [
        ("reason", pa.string()),
        *((name, _TYPE_OF.get(name) or _TYPES[type_]) for name, type_ in get_type_hints(Measurement).items()),
    ]
)
"""The reason for quarantine, then the fields of a Measurement; in each row one of the two is null."""
_KEYS = pa.schema([("key", pa.string())])
ENTRY = pa.schema([*_KEYS, *OUTCOMES])

_LOCK_TIMEOUT_SECONDS = 60.0
_CHECKSUM_BYTES = 4
_CACHED_VERSIONS = 3
"""Number of versions (of settings, code and decoders) that stay in the cache; older ones are deleted."""
_DELETE_OLD_VERSIONS = (
    "DELETE FROM batches WHERE version NOT IN "
    "(SELECT version FROM batches GROUP BY version ORDER BY max(rowid) DESC LIMIT ?)"
)
_PAGE_BYTES = 65536
"""SQLite's largest page: a batch is read in a third of the time that pages of 4 KiB take."""


class MeasurementCache:
    """Any number of processes may add batches at the same time."""

    def __init__(self, file: Path | None, version: str) -> None:
        self._file = file
        self._version = version
        self._connection = None if file is None else _connect(file)
        self._has_added = False

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path | None, version: str) -> Iterator["MeasurementCache"]:
        cache = cls(folder and folder / "outcomes.sqlite", version)
        try:
            yield cache
        finally:
            cache._close()

    def find(self, wanted: pa.Array) -> pa.Table:
        """The batches with any of the wanted keys, in the columns `key` and OUTCOMES; they have other keys, too."""
        batches: list[pa.RecordBatch] = []
        try:
            if self._connection is not None:
                batches = self._read(self._connection, wanted)
        except sqlite3.OperationalError:
            # Locked for too long, or a failing disk: the content may be intact.
            self._close()
        except sqlite3.DatabaseError:
            self._start_again()
        return pa.Table.from_batches(batches, ENTRY)

    def _read(self, connection: sqlite3.Connection, wanted: pa.Array) -> list[pa.RecordBatch]:
        rows = connection.execute("SELECT rowid, keys FROM batches WHERE version = ?", (self._version,))
        keys = {rowid: batch for rowid, blob in rows if (batch := _decoded(blob, _KEYS)) is not None}
        if not keys:
            return []
        is_wanted = pc.is_in(pa.Table.from_batches(keys.values())["key"], value_set=wanted).to_numpy()
        starts = np.cumsum([0, *(len(batch) for batch in keys.values())])[:-1]
        batches = []
        for rowid, holds_any in zip(list(keys), np.logical_or.reduceat(is_wanted, starts), strict=True):
            if holds_any:
                for [blob] in connection.execute("SELECT content FROM batches WHERE rowid = ?", (rowid,)):
                    if (content := _decoded(blob, OUTCOMES)) is not None:
                        batches.append(pa.record_batch([*keys[rowid].columns, *content.columns], ENTRY))
        return batches

    def add(self, batch: pa.RecordBatch) -> None:
        if self._connection is None:
            return
        blobs = [_encoded(batch.select(schema.names)) for schema in (_KEYS, OUTCOMES)]
        try:
            with self._connection:
                self._connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (self._version, *blobs))
                if not self._has_added:
                    self._connection.execute(_DELETE_OLD_VERSIONS, (_CACHED_VERSIONS,))
                    self._has_added = True
        except sqlite3.Error:
            self._close()

    def _start_again(self) -> None:
        self._close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._connection = _connect(self._file)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(path: Path) -> sqlite3.Connection | None:
    """A connection to the cache; a damaged file is deleted and created again; None where the folder is unusable."""
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_SECONDS)
        except (OSError, sqlite3.Error):
            return None
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            # A killed pass loses nothing by it; what a power cut damages is detected and measured again.
            connection.execute("PRAGMA synchronous = OFF")
            # The order of the columns matters: keys are read without the content behind them.
            connection.execute("CREATE TABLE IF NOT EXISTS batches (version TEXT, keys BLOB, content BLOB)")
            connection.commit()
            return connection
        except sqlite3.OperationalError:
            # Locked for too long, or a folder that can't be written: the file may be intact.
            connection.close()
            return None
        except sqlite3.DatabaseError:
            connection.close()
            path.unlink(missing_ok=True)
    return None


def _encoded(batch: pa.RecordBatch) -> bytes:
    content: bytes = batch.serialize().to_pybytes()
    return content + zlib.crc32(content).to_bytes(_CHECKSUM_BYTES)


def _decoded(blob: object, schema: pa.Schema) -> pa.RecordBatch | None:
    """The batch; None where it is damaged: its files are measured again."""
    if not isinstance(blob, bytes) or len(blob) <= _CHECKSUM_BYTES:
        return None
    content, checksum = memoryview(blob)[:-_CHECKSUM_BYTES], blob[-_CHECKSUM_BYTES:]
    if zlib.crc32(content) != int.from_bytes(checksum):
        return None
    return pa.ipc.read_record_batch(content, schema)
