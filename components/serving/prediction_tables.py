"""Tables of predictions that an interrupted run resumes: CSV, Parquet or JSON Lines.

While a run works, finished chunks of rows lie in the folder `.NAME.chunks` beside the table, each with a record of its
images. A second run with the same model, sources and options reuses the chunks whose images are unchanged, and the
table is the same as without the interruption, byte for byte. An image counts as unchanged while its name is the same
and, unless it lies in a store, also the size and modification time of its file, or of the archive that holds it.
"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from components.data.files.image_file import ImageFile
from components.serving.batch_prediction import Row
from components.serving.prediction_records import Columns, Record
from components.serving.table_formats import FORMATS
from components.shared.errors import DataError, ServiceError, SettingsError
from components.shared.files import atomic_file, read_json, sha256_of_record, write_json

_CELLS_PER_CHUNK = 2**14
"""Rows times columns of a chunk: a few seconds of work, and little memory."""
_MAX_PROBLEMS = 20


@dataclass(frozen=True)
class PredictionJob:
    """What to write where."""

    target: Path
    columns: Columns
    plan: dict[str, Any]
    """Everything but the images that the rows depend on; chunks of another plan are not reused."""
    batch_size: int
    """A chunk holds whole batches, so that a run that resumes makes the same batches."""

    @property
    def rows_per_chunk(self) -> int:
        return self.batch_size * max(1, _CELLS_PER_CHUNK // (self.batch_size * len(self.columns)))


@dataclass(frozen=True)
class Chunk:
    """Record of a finished chunk of rows."""

    rows: int
    unreadable: int
    images_sha256: str
    """Digest of the images in order: their names, and the size and modification time of files."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of the first images that can't be read."""


@dataclass(frozen=True)
class Summary:
    rows: int
    unreadable: int
    reused: int
    """Rows that an earlier, interrupted run had finished."""
    problems: list[tuple[str, str]]
    """Path and reason of the first images that can't be read."""


def check_target(target: Path) -> None:
    """Raises SettingsError for an extension of no known format, before any work."""
    extension = target.suffix.lower()
    if extension not in FORMATS:
        raise SettingsError(
            f"--out {target.name}: the extension {extension or '(none)'} should be one of {', '.join(FORMATS)}"
        )
    if target.is_dir():
        raise SettingsError(f"--out {target}: is a folder; name a file in it")


def table_columns(prediction_columns: Columns) -> Columns:
    return {"path": str, **prediction_columns, "note": str, "error": str, "model": str}


def write_predictions(
    job: PredictionJob,
    find_images: Callable[[], Iterator[ImageFile]],
    predict: Callable[[Iterator[ImageFile]], Iterator[Row]],
    *,
    on_progress: Callable[[int], None],
    check: Callable[[], None] = lambda: None,
) -> Summary:
    """Writes the table, whole or not at all; `on_progress` gets the number of finished rows.

    `check` is called just before the table takes the place of an earlier file. `find_images` starts from the first
    image at each call. Raises DataError if there are none, ServiceError if the table can't be written.
    """
    with _Chunks(job) as chunks:
        images = chunks.resume(find_images)
        reused = chunks.rows
        on_progress(reused)
        rows = _with_progress(predict(images), reused, on_progress)
        while block := list(islice(rows, job.rows_per_chunk)):
            chunks.add(block)
        if not chunks.finished:
            raise DataError("there is nothing to predict")
        check()
        return chunks.join(reused)


class _Chunks:
    """The finished chunks beside the table; one process at a time may write them."""

    def __init__(self, job: PredictionJob) -> None:
        self._job = job
        self._extension = job.target.suffix.lower()
        self._format = FORMATS[self._extension]
        self._folder = job.target.with_name(f".{job.target.name}.chunks")
        self.finished: list[Chunk] = []

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self.finished)

    def __enter__(self) -> "_Chunks":
        with self._named_write_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT)
            if not _lock(self._lock):
                os.close(self._lock)
                raise ServiceError(
                    f"another run is writing {self._job.target}; wait until it ends, or choose another --out"
                )
            self._load_finished()
        return self

    def __exit__(self, *problem: object) -> None:
        """Keeps the finished chunks, if any, for a later run."""
        if not self.finished:
            shutil.rmtree(self._folder)
        os.close(self._lock)

    def _load_finished(self) -> None:
        plan = {"plan": sha256_of_record({"columns": list(self._job.columns)} | self._job.plan)}
        if _read_record(self._folder / "plan.json") != plan:
            self._delete_from(0)
            write_json(self._folder / "plan.json", plan)
        while (record := _read_record(self._record_file(len(self.finished)))) is not None:
            self.finished.append(Chunk(**record | {"problems": [tuple(one) for one in record["problems"]]}))

    def resume(self, find_images: Callable[[], Iterator[ImageFile]]) -> Iterator[ImageFile]:
        """The images after the finished chunks; drops the first chunk whose images changed and all after it."""
        images = find_images()
        for index, chunk in enumerate(self.finished):
            if _images_sha256(image.name for image in islice(images, chunk.rows)) != chunk.images_sha256:
                self._delete_from(index)
                self.finished = self.finished[:index]
                return islice(find_images(), self.rows, None)
        return images

    def add(self, rows: Sequence[Row]) -> None:
        index = len(self.finished)
        problems = [(row.path, row.error) for row in rows if row.error is not None]
        chunk = Chunk(len(rows), len(problems), _images_sha256(row.path for row in rows), problems[:_MAX_PROBLEMS])
        records = [record_of(row, self._job.columns) for row in rows]
        with self._named_write_errors():
            with atomic_file(self._chunk_file(index)) as temporary:
                self._format.write_chunk(temporary, records, self._job.columns)
            # After the rows: a chunk with a record is complete.
            write_json(self._record_file(index), asdict(chunk))
        self.finished.append(chunk)

    def join(self, reused: int) -> Summary:
        """Joins the chunks into the table; then they can be deleted."""
        files = [self._chunk_file(index) for index in range(len(self.finished))]
        with self._named_write_errors(), atomic_file(self._job.target) as temporary:
            self._format.join_chunks(temporary, files, self._job.columns)
        problems = [problem for chunk in self.finished for problem in chunk.problems][:_MAX_PROBLEMS]
        summary = Summary(self.rows, sum(chunk.unreadable for chunk in self.finished), reused, problems)
        self.finished = []
        return summary

    @contextmanager
    def _named_write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise ServiceError(
                f"--out {self._job.target} can't be written: {problem.strerror or problem}; free some space or permit "
                "writing, and run the same command again to resume, or choose another --out"
            ) from None

    def _chunk_file(self, index: int) -> Path:
        return self._folder / f"{index:06d}{self._extension}"

    def _record_file(self, index: int) -> Path:
        return self._folder / f"{index:06d}.json"

    def _delete_from(self, index: int) -> None:
        for file in self._folder.iterdir():
            if file.stem.isdigit() and int(file.stem) >= index:
                file.unlink()


def _with_progress(rows: Iterator[Row], reused: int, on_progress: Callable[[int], None]) -> Iterator[Row]:
    for num_done, row in enumerate(rows, start=reused + 1):
        yield row
        on_progress(num_done)


def record_of(row: Row, columns: Columns) -> Record:
    """The row as the table holds it: a value for each column, None where it has none."""
    values = {"path": row.path, **row.prediction, "note": row.note, "error": row.error, "model": row.model}
    return {name: values.get(name) for name in columns}


def _images_sha256(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        # The name as it stands in the row.
        text = os.fsencode(name).decode("utf-8", "backslashreplace")
        digest.update(f"{text}\0{_file_state(text)}\0".encode())
    return digest.hexdigest()


def _file_state(name: str) -> str:
    """Size and modification time of the file or of the archive that holds it; empty if it is not on this machine."""
    if "://" in name:
        return ""
    for path in (Path(name), *Path(name).parents):
        try:
            status = path.stat()
        except (OSError, ValueError):
            continue
        return f"{status.st_size} {status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else ""
    return ""


def _read_record(file: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = read_json(file)
    except (OSError, ValueError):
        return None
    return record


def _lock(handle: int) -> bool:
    """Whether this process gets the lock, which is released when the process ends, however it ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
