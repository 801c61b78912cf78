"""One pass over the raw images: each file is read, checked against its SHA-256, decoded and measured once.

Measurements are cached by content, so that a grown data set costs only its new files, and a killed pass resumes where
it stopped. The cache changes no result: an entry is found only for the same bytes, settings, code and decoders.

A cached file costs a microsecond or two: outcomes are columns of whole batches and are joined with the manifest by key
in one step; no Python object is made of them.
"""

import hashlib
import math
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.images.decoding import UndecodableImage
from components.data.images.measurement import Measurement, measure_without_hashes, with_hashes
from components.data.raw.dataset import RawFile, RawImages, raw_files
from components.data.raw.measurement_cache import ENTRY, OUTCOMES, MeasurementCache
from components.shared.errors import DataError
from components.shared.processor import usable_cores
from components.shared.progress import Progress

Outcome = Measurement | str
"""The measurement, or the reason why the file is quarantined."""

_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "pillow-heif", "simplejpeg")
_BATCH = 256
_WORTH_PROCESSES = 12_000
"""From this many files on, processes repay the second or so that they take to start."""
_WORTH_THREADS_BYTES = 6144
"""Mean size of a file from which threads help. Decoding releases Python's lock; smaller images need the lock so much of
the time that two threads take twice as long as one."""
_WORTH_SLICING = 32
"""Mean number of consecutive rows from which slicing helps: one slice costs about as much as copying so many rows."""


@dataclass(frozen=True)
class MeasurementPass:
    outcomes: pa.Table
    """The columns of OUTCOMES, one row for each row of the manifest."""
    num_measured: int
    num_cached: int
    """Rows whose measurement was cached: their files were not read again."""


def measure_all(
    manifest: pa.Table, raw: Path, *, max_megapixels: float, code: str, cache: Path | None, progress: Progress
) -> MeasurementPass:
    """Measures every file on all cores; `cache` is the folder of cached measurements, None caches nothing.

    `code` is the fingerprint of the measuring code: measurements by other code are not used.

    Raises DataError where a file's bytes differ from the manifest's SHA-256.
    """
    keys = _keys(manifest)
    with MeasurementCache.opened(cache, _version(max_megapixels, code)) as store:
        batches = [store.find(keys)]
        is_cached = pc.is_in(keys, value_set=batches[0]["key"])
        waiting = keys.filter(pc.invert(is_cached)).drop_null().unique()
        rows = raw_files(manifest.take(pc.index_in(waiting, value_set=keys)))
        done = len(manifest) - len(rows)
        progress("validate", done, len(manifest))
        for batch in _measured(list(zip(waiting.to_pylist(), rows, strict=True)), raw, max_megapixels):
            store.add(batch)
            batches.append(pa.Table.from_batches([batch]))
            done += len(batch)
            progress("validate", done, len(manifest))
    return MeasurementPass(_joined(manifest, keys, pa.concat_tables(batches)), len(rows), is_cached.true_count)


def _keys(manifest: pa.Table) -> pa.Array:
    """The key of each row's outcome: SHA-256 of the file; null for a row without bytes."""
    has_bytes = pc.and_(pc.is_null(manifest["problem"]), pc.is_valid(manifest["shard"]))
    return pc.if_else(has_bytes, manifest["sha256"], None).combine_chunks()


def _joined(manifest: pa.Table, keys: pa.Array, measured: pa.Table) -> pa.Table:
    """The outcome of each row of the manifest, from the outcomes by key."""
    outcomes = _take(measured.select(OUTCOMES.names), pc.index_in(keys, value_set=measured["key"]))
    unread = pc.coalesce(manifest["problem"], "the file has no content")
    reason = pc.if_else(pc.is_null(keys), unread, outcomes["reason"])
    return outcomes.set_column(0, OUTCOMES.field("reason"), reason)


def _take(table: pa.Table, indices: pa.Array) -> pa.Table:
    """`table.take(indices)`, without copying consecutive rows: a thumbnail is a kilobyte."""
    # -2 is no neighbour of row 0.
    index_N = indices.fill_null(-2).to_numpy()
    starts = np.flatnonzero(np.diff(index_N, prepend=-4) != 1)
    if len(starts) * _WORTH_SLICING > len(index_N):
        return table.take(indices)
    lengths = np.diff(starts, append=len(index_N))
    none = pa.table({field.name: pa.nulls(1, field.type) for field in table.schema})
    runs = zip(index_N[starts].tolist(), lengths.tolist(), strict=True)
    return pa.concat_tables(
        [table.slice(0, 0), *(table.slice(start, length) if start >= 0 else none for start, length in runs)]
    )


def _version(max_megapixels: float, code: str) -> str:
    """Fingerprint of the setting, the columns, the measuring code and the decoding libraries."""
    inputs = [f"{max_megapixels:g}", str(OUTCOMES), code, *(f"{name} {_version_of(name)}" for name in _LIBRARIES)]
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:16]


def _version_of(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


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
    return ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    import cv2

    # One process for each core: threads inside would only wait for each other.
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Without it a worker whose parent is killed would wait for work forever."""
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
    return pa.RecordBatch.from_pylist(rows, ENTRY)


def _measure(row: RawFile, images: RawImages, max_megapixels: float) -> Outcome:
    assert row.shard is not None
    content = images.read(row.shard, row.offset, row.size_bytes)
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise DataError(
            f"{row.path}: its bytes differ from the manifest's SHA-256; restore the raw data with `dvc checkout`"
        )
    try:
        return measure_without_hashes(content, max_megapixels=max_megapixels)
    except UndecodableImage as problem:
        return str(problem)
