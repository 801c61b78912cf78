"""One pass over the raw images: each file is read, checked against its SHA-256, decoded and measured once.

What was measured is kept by content in a store beside the data, so that a grown data set costs only what is new and a
pass that was killed goes on where it stopped. The store changes no result: an entry is found only by the same bytes,
ending, settings, code and decoders, and it may be deleted at any time.
"""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from components.data import decoding, hashing, probing
from components.data.decoding import UndecodableImage
from components.data.probing import Measurement, probe_without_hashes, with_hashes
from components.data.raw import RawFile, RawImages
from components.errors import DataError
from components.files import sha256_of_file
from components.progress import Progress

Outcome = Measurement | str
"""What was measured, or the reason why the file goes to quarantine."""

_KINDS = tuple(get_type_hints(Measurement).values())
_NAMES = tuple(get_type_hints(Measurement))
_HASHES, _SIGN = ("hash", "mirror_hash"), 2**63
_HASH_PLACES = tuple(_NAMES.index(name) for name in _HASHES)
_BATCH = 256
_WORTH_PROCESSES = 2048
"""From so many files on, starting processes (a second or two) is repaid: small images keep Python's lock busy."""
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Pass:
    outcomes: list[Outcome]
    """One a row, in the order of the rows."""
    num_measured: int
    num_known: int
    """Files whose measurement was found in the store, and that were not read again."""


def measure_all(
    rows: Sequence[RawFile], raw: Path, *, max_megapixels: float, store: Path | None, progress: Progress
) -> Pass:
    """Measures every file on all cores; `store` is the folder of kept measurements, None keeps none.

    Raises DataError where the bytes are not those that the manifest promises.
    """
    outcomes: dict[str, Outcome] = {}
    common = _version(max_megapixels)
    keys = [_key(row, common) for row in rows]
    with MeasurementStore.opened(store) as kept:
        outcomes |= kept.find(key for key in keys if key)
        num_known = len(outcomes)
        waiting = {key: row for key, row in zip(keys, rows, strict=True) if key and key not in outcomes}
        done = len(rows) - len(waiting)
        progress("validate", done, len(rows))
        for batch in _measured(waiting, raw, max_megapixels):
            kept.add(batch)
            outcomes |= batch
            done += len(batch)
            progress("validate", done, len(rows))
    found = [
        outcomes[key] if key else row.problem or "the file has no content" for key, row in zip(keys, rows, strict=True)
    ]
    return Pass(found, len(waiting), num_known)


def _key(row: RawFile, common: str) -> str | None:
    """What the outcome depends on, as one text; None for a row without bytes."""
    if row.problem is not None or row.shard is None:
        return None
    ending = os.path.splitext(row.path)[1]  # noqa: PTH122 - a million times
    return f"{row.sha256} {common} {ending}"


@functools.cache
def _version(max_megapixels: float) -> str:
    """The setting, the code that measures and the libraries that decode: no entry outlives a change of them."""
    import cv2
    import numpy as np
    import PIL

    code = [sha256_of_file(Path(str(module.__file__))) for module in (decoding, hashing, probing)]
    parts = [f"{max_megapixels:g}", *code, cv2.__version__, np.__version__, PIL.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _measured(waiting: dict[str, RawFile], raw: Path, max_megapixels: float) -> Iterator[dict[str, Outcome]]:
    items = list(waiting.items())
    batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
    if not batches:
        return
    with _workers(len(items)) as workers:
        tasks = [workers.submit(_measure_batch, batch, raw, max_megapixels) for batch in batches]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            for task in tasks:
                task.cancel()


def _workers(num_files: int) -> Executor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_files < _WORTH_PROCESSES or cores == 1:
        return ThreadPoolExecutor(cores)
    return ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    import cv2

    # A process a core: threads inside would only wait for each other.
    cv2.setNumThreads(1)


def _measure_batch(batch: list[tuple[str, RawFile]], raw: Path, max_megapixels: float) -> dict[str, Outcome]:
    with RawImages(raw) as images:
        found = {key: _measure(row, images, max_megapixels) for key, row in batch}
    good = [key for key, outcome in found.items() if isinstance(outcome, Measurement)]
    hashed = with_hashes([outcome for outcome in found.values() if isinstance(outcome, Measurement)])
    return found | dict(zip(good, hashed, strict=True))


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
    """Outcomes by key in an SQLite file; batches are added whole, by any number of processes.

    A store that can't be read or written is done without: it is a shortcut, never a need.
    """

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path | None) -> Iterator["MeasurementStore"]:
        connection = None if folder is None else _connect(folder / "measurements.sqlite")
        try:
            yield cls(connection)
        finally:
            if connection is not None:
                connection.close()

    def find(self, keys: Iterable[str]) -> dict[str, Outcome]:
        if self._connection is None:
            return {}
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Outcome] = {}
        try:
            for start in range(0, len(wanted), 500):
                chunk = wanted[start : start + 500]
                query = f"SELECT * FROM measured WHERE key IN ({','.join('?' * len(chunk))})"
                for key, problem, *values in self._connection.execute(query, chunk):
                    if (outcome := _from_row(problem, values)) is not None:
                        found[key] = outcome
        except sqlite3.Error:
            return {}
        return found

    def add(self, batch: dict[str, Outcome]) -> None:
        if self._connection is None:
            return
        rows = [(key, *_to_row(outcome)) for key, outcome in batch.items()]
        try:
            with self._connection:
                self._connection.executemany(
                    f"INSERT OR REPLACE INTO measured VALUES (?, ?{', ?' * len(_NAMES)})", rows
                )
        except sqlite3.Error:
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
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS measured (key TEXT PRIMARY KEY, problem, {', '.join(_NAMES)})"
            )
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


def _to_row(outcome: Outcome) -> list[Any]:
    """The reason, then the fields of a measurement; one of the two is null."""
    if isinstance(outcome, str):
        return [outcome, *(None for _ in _NAMES)]
    values = vars(outcome)
    # SQLite's whole numbers have a sign.
    return [None, *(value - _SIGN if name in _HASHES else value for name, value in values.items())]


def _from_row(problem: Any, values: list[Any]) -> Outcome | None:
    """None for an entry that is damaged."""
    if isinstance(problem, str):
        return problem
    if any(type(value) is not kind for value, kind in zip(values, _KINDS, strict=True)):
        return None
    for place in _HASH_PLACES:
        values[place] += _SIGN
    return Measurement(*values)
