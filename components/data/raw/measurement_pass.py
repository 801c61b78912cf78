"""One pass over the raw images: each file is read, checked against its SHA-256, decoded and measured once.

What was measured is kept by content in a store beside the data, so that a grown data set costs only what is new and a
pass that was killed goes on where it stopped. The store changes no result: an entry is found only by the same bytes,
ending, settings, code and decoders, and it may be deleted at any time.

A known file costs a microsecond or two: outcomes lie in columns, are kept as whole batches, and are joined with the
manifest by key in one step; no Python object is made of them.
"""

import contextlib
import functools
import hashlib
import math
import multiprocessing
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.images import decoding, jpeg_damage, measurement, perceptual_hash
from components.data.images.decoding import UndecodableImage
from components.data.images.measurement import Measurement, probe_without_hashes, with_hashes
from components.data.images.perceptual_hash import COLOUR_SIDE, SIDE
from components.data.raw.dataset import RawFile, RawImages, raw_files
from components.shared.errors import DataError
from components.shared.files import sha256_of_file
from components.shared.processor import usable_cores
from components.shared.progress import Progress

Outcome = Measurement | str
"""What was measured, or the reason why the file goes to quarantine."""

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
        *((name, _TYPE_OF.get(name) or _TYPES[kind]) for name, kind in get_type_hints(Measurement).items()),
    ]
)
"""The reason for quarantine, then the fields of a Measurement; in each row one of the two is null."""
_KEYS = pa.schema([("key", pa.string())])
_KEPT = pa.schema([*_KEYS, *OUTCOMES])
_ENDING = r"[^/.]\.*(?P<ending>\.[^./]*)$"
"""As os.path.splitext: the dots with which a name begins are none."""
_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "simplejpeg")
_BATCH = 256
_WORTH_PROCESSES = 12_000
"""From so many files on, starting processes (a second or so) is repaid."""
_WORTH_THREADS_BYTES = 6144
"""A file. Decoding leaves Python's lock to the other threads; smaller images keep it so busy that two threads take
twice the time of one."""
_WORTH_SLICING = 32
"""Rows that follow each other, on average: to slice a table costs about as much as to copy so many rows."""
_PATIENCE_SECONDS = 60.0
_SEAL_BYTES = 4
_KEPT_VERSIONS = 3
"""Of settings, code and decoders: those before are measured anew when they come back, and don't fill the disk."""
_FORGET_OLDEST = (
    "DELETE FROM batches WHERE version NOT IN "
    "(SELECT version FROM batches GROUP BY version ORDER BY max(rowid) DESC LIMIT ?)"
)
_PAGE_BYTES = 65536
"""SQLite's largest: a batch is read in a third of the time that pages of 4 KiB take."""


@dataclass(frozen=True)
class Pass:
    outcomes: pa.Table
    """The columns of OUTCOMES, a row a row of the manifest, in its order."""
    num_measured: int
    num_known: int
    """Rows whose measurement was found in the store: their files were not read again."""


def measure_all(
    manifest: pa.Table, raw: Path, *, max_megapixels: float, store: Path | None, progress: Progress
) -> Pass:
    """Measures every file on all cores; `store` is the folder of kept measurements, None keeps none.

    Raises DataError where the bytes are not those that the manifest promises.
    """
    keys = _keys(manifest)
    with MeasurementStore.opened(store, _version(max_megapixels)) as kept:
        found = [kept.find(keys)]
        is_known = pc.is_in(keys, value_set=found[0]["key"])
        waiting = keys.filter(pc.invert(is_known)).drop_null().unique()
        rows = raw_files(manifest.take(pc.index_in(waiting, value_set=keys)))
        done = len(manifest) - len(rows)
        progress("validate", done, len(manifest))
        for batch in _measured(list(zip(waiting.to_pylist(), rows, strict=True)), raw, max_megapixels):
            kept.add(batch)
            found.append(pa.Table.from_batches([batch]))
            done += len(batch)
            progress("validate", done, len(manifest))
    return Pass(_joined(manifest, keys, pa.concat_tables(found)), len(rows), is_known.true_count)


def _keys(manifest: pa.Table) -> pa.Array:
    """What a row's outcome depends on beside the version, as one text; null for a row without bytes."""
    ending = pc.struct_field(pc.extract_regex(manifest["path"], _ENDING), "ending")
    key = pc.binary_join_element_wise(manifest["sha256"], pc.fill_null(ending, ""), "")
    has_bytes = pc.and_(pc.is_null(manifest["problem"]), pc.is_valid(manifest["shard"]))
    return pc.if_else(has_bytes, key, None).combine_chunks()


def _joined(manifest: pa.Table, keys: pa.Array, found: pa.Table) -> pa.Table:
    outcomes = _taken(found.select(OUTCOMES.names), pc.index_in(keys, value_set=found["key"]))
    unread = pc.coalesce(manifest["problem"], "the file has no content")
    reason = pc.if_else(pc.is_null(keys), unread, outcomes["reason"])
    return outcomes.set_column(0, OUTCOMES.field("reason"), reason)


def _taken(table: pa.Table, places: pa.Array) -> pa.Table:
    """`table.take(places)`, of which nothing is copied where rows follow each other: a thumbnail is a kilobyte."""
    # Two before the first row: none of which the next one follows.
    place_N = places.fill_null(-2).to_numpy()
    starts = np.flatnonzero(np.diff(place_N, prepend=-4) != 1)
    if len(starts) * _WORTH_SLICING > len(place_N):
        return table.take(places)
    lengths = np.diff(starts, append=len(place_N))
    none = pa.table({field.name: pa.nulls(1, field.type) for field in table.schema})
    runs = zip(place_N[starts].tolist(), lengths.tolist(), strict=True)
    return pa.concat_tables(
        [table.slice(0, 0), *(table.slice(place, length) if place >= 0 else none for place, length in runs)]
    )


@functools.cache
def _version(max_megapixels: float) -> str:
    """The setting, columns, code that measures and libraries that decode: no entry outlives a change of them."""
    modules = (decoding, perceptual_hash, jpeg_damage, measurement)
    code = [sha256_of_file(Path(str(module.__file__))) for module in modules]
    parts = [f"{max_megapixels:g}", str(OUTCOMES), *code, *(f"{name} {version(name)}" for name in _LIBRARIES)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _measured(waiting: list[tuple[str, RawFile]], raw: Path, max_megapixels: float) -> Iterator[pa.RecordBatch]:
    if not waiting:
        return
    cores = usable_cores()
    size = min(_BATCH, math.ceil(len(waiting) / cores))
    batches = [waiting[start : start + size] for start in range(0, len(waiting), size)]
    with _workers([row for _, row in waiting], cores) as workers:
        tasks = [workers.submit(_measure_batch, batch, raw, max_megapixels) for batch in batches]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            for task in tasks:
                task.cancel()


def _workers(files: list[RawFile], cores: int) -> Executor:
    if len(files) < _WORTH_PROCESSES or cores == 1:
        are_small = sum(file.size_bytes for file in files) < _WORTH_THREADS_BYTES * len(files)
        return ThreadPoolExecutor(1 if are_small else cores)
    return ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)


def _begin_worker() -> None:
    import cv2

    # A process a core: threads inside would only wait for each other.
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent is killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _measure_batch(batch: list[tuple[str, RawFile]], raw: Path, max_megapixels: float) -> pa.RecordBatch:
    with RawImages(raw) as images:
        outcomes = [_measure(row, images, max_megapixels) for _, row in batch]
    hashed = iter(with_hashes([outcome for outcome in outcomes if isinstance(outcome, Measurement)]))
    rows = [
        {"key": key, "reason": outcome} if isinstance(outcome, str) else {"key": key, **vars(next(hashed))}
        for (key, _), outcome in zip(batch, outcomes, strict=True)
    ]
    return pa.RecordBatch.from_pylist(rows, _KEPT)


def _measure(row: RawFile, images: RawImages, max_megapixels: float) -> Outcome:
    assert row.shard is not None
    content = images.read(row.shard, row.offset, row.size_bytes)
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise DataError(
            f"{row.path}: its bytes are not those that the manifest promises; restore the raw data with `dvc checkout`"
        )
    try:
        return probe_without_hashes(content, row.path, max_megapixels=max_megapixels)
    except UndecodableImage as problem:
        return str(problem)


class MeasurementStore:
    """Outcomes by key in an SQLite file, in Arrow's format; batches are added whole, by any number of processes.

    A store that can't be read or written is done without: it is a shortcut, never a need.
    """

    def __init__(self, file: Path | None, version: str) -> None:
        self._file = file
        self._version = version
        self._connection = None if file is None else _connect(file)
        self._has_added = False

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path | None, version: str) -> Iterator["MeasurementStore"]:
        store = cls(folder and folder / "outcomes.sqlite", version)
        try:
            yield store
        finally:
            store._close()

    def find(self, wanted: pa.Array) -> pa.Table:
        """The batches that hold any of the keys, in the columns `key` and OUTCOMES; further keys may stand beside."""
        batches: list[pa.RecordBatch] = []
        try:
            if self._connection is not None:
                batches = self._read(self._connection, wanted)
        except sqlite3.OperationalError:
            # Locked for too long, or a disk that fails: what it holds may well be sound.
            self._close()
        except sqlite3.DatabaseError:
            self._begin_anew()
        return pa.Table.from_batches(batches, _KEPT)

    def _read(self, connection: sqlite3.Connection, wanted: pa.Array) -> list[pa.RecordBatch]:
        rows = connection.execute("SELECT rowid, keys FROM batches WHERE version = ?", (self._version,))
        keys = {place: batch for place, blob in rows if (batch := _restored(blob, _KEYS)) is not None}
        if not keys:
            return []
        is_wanted = pc.is_in(pa.Table.from_batches(keys.values())["key"], value_set=wanted).to_numpy()
        starts = np.cumsum([0, *(len(batch) for batch in keys.values())])[:-1]
        batches = []
        for place, holds_any in zip(list(keys), np.logical_or.reduceat(is_wanted, starts), strict=True):
            if holds_any:
                for [blob] in connection.execute("SELECT content FROM batches WHERE rowid = ?", (place,)):
                    if (content := _restored(blob, OUTCOMES)) is not None:
                        batches.append(pa.record_batch([*keys[place].columns, *content.columns], _KEPT))
        return batches

    def add(self, batch: pa.RecordBatch) -> None:
        if self._connection is None:
            return
        blobs = [_sealed(batch.select(schema.names)) for schema in (_KEYS, OUTCOMES)]
        try:
            with self._connection:
                self._connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (self._version, *blobs))
                if not self._has_added:
                    self._connection.execute(_FORGET_OLDEST, (_KEPT_VERSIONS,))
                    self._has_added = True
        except sqlite3.Error:
            self._close()

    def _begin_anew(self) -> None:
        self._close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._connection = _connect(self._file)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(path: Path) -> sqlite3.Connection | None:
    """A connection to a sound store; a damaged one is started anew."""
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=_PATIENCE_SECONDS)
        except (OSError, sqlite3.Error):
            return None
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            # A killed pass loses nothing by it; what a power cut damages is noticed and measured anew.
            connection.execute("PRAGMA synchronous = OFF")
            # The order counts: what stands before the content is read without it.
            connection.execute("CREATE TABLE IF NOT EXISTS batches (version TEXT, keys BLOB, content BLOB)")
            connection.commit()
            return connection
        except sqlite3.OperationalError:
            # Locked for too long, or a folder that can't be written: it may well be sound.
            connection.close()
            return None
        except sqlite3.DatabaseError:
            connection.close()
            path.unlink(missing_ok=True)
    return None


def _sealed(batch: pa.RecordBatch) -> bytes:
    content: bytes = batch.serialize().to_pybytes()
    return content + zlib.crc32(content).to_bytes(_SEAL_BYTES)


def _restored(blob: object, schema: pa.Schema) -> pa.RecordBatch | None:
    """None for a batch that is damaged: its files are measured anew."""
    if not isinstance(blob, bytes) or len(blob) <= _SEAL_BYTES:
        return None
    content, seal = memoryview(blob)[:-_SEAL_BYTES], blob[-_SEAL_BYTES:]
    if zlib.crc32(content) != int.from_bytes(seal):
        return None
    return pa.ipc.read_record_batch(content, schema)
