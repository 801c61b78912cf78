"""Tables of predictions that a broken run goes on with: CSV, Parquet or JSON Lines.

While a run works, finished parts stand in the folder `.NAME.parts` beside the table, each with a note of which images
it answers. A second run with the same model, sources and options takes over the parts whose images are still the
same, and the table comes out as it would have without the break, byte for byte. A file of this machine, or the archive
that an image lies in, is the same while its name, size and time of change are; what lies in a store while its name is.
"""

import csv
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from components.data.files.image_file import ImageFile
from components.serving.batch_prediction import Row
from components.serving.prediction_rows import Columns
from components.shared.errors import DataError, ServiceError, SettingsError
from components.shared.files import atomic_file, read_json, sha256_of_record, write_json

_FORM = 2
"""Raised whenever the parts of an earlier release can't be gone on with."""
_PART_CELLS = 2**14
"""Rows times columns of a part: a few seconds of work, and little to hold."""
_LISTED = 20
_ROW_GROUP = 16_384


@dataclass(frozen=True)
class Part:
    """A finished run of rows."""

    rows: int
    unreadable: int
    images_sha256: str
    """Of its images in order: their names, and of files the size and the time of change."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of the first images that could not be read."""


@dataclass(frozen=True)
class Summary:
    rows: int
    unreadable: int
    taken_over: int
    """Rows that an earlier, broken run had finished."""
    problems: list[tuple[str, str]]
    """Path and reason of the first images that could not be read."""


class Format(Protocol):
    def write_part(self, target: Path, records: list[dict[str, Any]], columns: Columns) -> None: ...

    def join(self, target: Path, parts: list[Path], columns: Columns) -> None: ...


class CsvFormat:
    def write_part(self, target: Path, records: list[dict[str, Any]], columns: Columns) -> None:
        with target.open("w", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, fieldnames=list(columns)).writerows(records)

    def join(self, target: Path, parts: list[Path], columns: Columns) -> None:
        header = io.StringIO(newline="")
        csv.writer(header).writerow(columns)
        _concatenate(target, header.getvalue().encode(), parts)


class JsonLinesFormat:
    def write_part(self, target: Path, records: list[dict[str, Any]], columns: Columns) -> None:
        with target.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def join(self, target: Path, parts: list[Path], columns: Columns) -> None:
        _concatenate(target, b"", parts)


class ParquetFormat:
    def write_part(self, target: Path, records: list[dict[str, Any]], columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(records, schema=_schema(columns)), target)

    def join(self, target: Path, parts: list[Path], columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        group: list[Any] = []
        with pq.ParquetWriter(target, _schema(columns), compression="zstd") as writer:
            for part in parts:
                group.append(pq.ParquetFile(part).read())
                if sum(len(table) for table in group) >= _ROW_GROUP:
                    writer.write_table(pa.concat_tables(group))
                    group = []
            if group:
                writer.write_table(pa.concat_tables(group))


FORMATS: dict[str, Format] = {".csv": CsvFormat(), ".parquet": ParquetFormat(), ".jsonl": JsonLinesFormat()}


def check_target(target: Path) -> None:
    """Raises SettingsError for an ending of no known format, before any work."""
    ending = target.suffix.lower()
    if ending not in FORMATS:
        raise SettingsError(
            f"--out {target.name}: the ending {ending or '(none)'} should be one of {', '.join(FORMATS)}"
        )
    if target.is_dir():
        raise SettingsError(f"--out {target}: is a folder; name a file in it")


def columns_of(answer_columns: Columns) -> Columns:
    return {"path": str, **answer_columns, "note": str, "error": str, "model": str}


@dataclass(frozen=True)
class Job:
    """What is to be written where."""

    target: Path
    columns: Columns
    plan: dict[str, Any]
    """Whatever the rows depend on but the images: another plan begins anew."""
    batch_size: int
    """A part holds whole batches, so that a run that goes on makes the same ones."""

    @property
    def rows_per_part(self) -> int:
        batches = _PART_CELLS // (self.batch_size * len(self.columns))
        return self.batch_size * max(1, batches)


def write_predictions(
    job: Job,
    inputs: Callable[[], Iterator[ImageFile]],
    answer: Callable[[Iterator[ImageFile]], Iterator[Row]],
    *,
    told: Callable[[int], None],
) -> Summary:
    """Writes the table, whole or not at all; `told` hears how many rows are done.

    `inputs` begins anew each time that it is called. Raises DataError where there are none, ServiceError where the
    table can't be written.
    """
    with _Parts(job) as parts:
        waiting = parts.go_on(inputs)
        taken_over = parts.rows
        told(taken_over)
        rows = _told_each(answer(waiting), taken_over, told)
        while block := list(islice(rows, job.rows_per_part)):
            parts.add(block)
        if not parts.finished:
            raise DataError("there is nothing to predict")
        return parts.join(taken_over)


class _Parts:
    """The finished parts beside the table; of one process at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._format = FORMATS[job.target.suffix.lower()]
        self._folder = job.target.with_name(f".{job.target.name}.parts")
        self.finished: list[Part] = []

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.finished)

    def __enter__(self) -> "_Parts":
        with self._writing():
            return self._open()

    def _open(self) -> "_Parts":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT)
        if not _locked(self._lock):
            os.close(self._lock)
            raise ServiceError(f"another run writes {self._job.target} right now; wait for it, or choose another --out")
        plan = {"form": _FORM, "plan": sha256_of_record(self._job.plan)}
        if _record_at(self._folder / "plan.json") != plan:
            self._drop_from(0)
            write_json(self._folder / "plan.json", plan)
        while (record := _record_at(self._note(len(self.finished)))) is not None:
            self.finished.append(Part(**record | {"problems": [tuple(one) for one in record["problems"]]}))
        return self

    def __exit__(self, *problem: object) -> None:
        """Leaves what a later run can go on with, if anything."""
        if not self.finished:
            shutil.rmtree(self._folder)
        os.close(self._lock)

    def go_on(self, inputs: Callable[[], Iterator[ImageFile]]) -> Iterator[ImageFile]:
        """The inputs behind those that are answered; parts whose images have changed are done anew."""
        waiting = inputs()
        for place, part in enumerate(self.finished):
            if _images_sha256(one.name for one in islice(waiting, part.rows)) != part.images_sha256:
                self._drop_from(place)
                self.finished = self.finished[:place]
                waiting = inputs()
                for _ in islice(waiting, self.rows):
                    pass
                break
        return waiting

    def add(self, rows: Sequence[Row]) -> None:
        place = len(self.finished)
        bad = [(row.path, row.error) for row in rows if row.error is not None]
        part = Part(len(rows), len(bad), _images_sha256(row.path for row in rows), bad[:_LISTED])
        with self._writing():
            with atomic_file(self._file(place)) as draft:
                self._format.write_part(draft, [_record(row, self._job.columns) for row in rows], self._job.columns)
            # Behind its rows: what has a note is whole.
            write_json(self._note(place), asdict(part))
        self.finished.append(part)

    def join(self, taken_over: int) -> Summary:
        """Makes the table of the parts, which are of no more use then."""
        files = [self._file(place) for place in range(len(self.finished))]
        with self._writing(), atomic_file(self._job.target) as draft:
            self._format.join(draft, files, self._job.columns)
        problems = [problem for part in self.finished for problem in part.problems][:_LISTED]
        summary = Summary(self.rows, sum(part.unreadable for part in self.finished), taken_over, problems)
        self.finished = []
        return summary

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise ServiceError(
                f"--out {self._job.target} can't be written: {problem.strerror or problem}; make room or allow it, and "
                "call again to go on, or choose another --out"
            ) from None

    def _file(self, place: int) -> Path:
        return self._folder / f"{place:06d}{self._job.target.suffix.lower()}"

    def _note(self, place: int) -> Path:
        return self._folder / f"{place:06d}.json"

    def _drop_from(self, place: int) -> None:
        for file in self._folder.iterdir():
            if file.stem.isdigit() and int(file.stem) >= place:
                file.unlink()


def _told_each(rows: Iterator[Row], done: int, told: Callable[[int], None]) -> Iterator[Row]:
    for number, row in enumerate(rows, start=done + 1):
        yield row
        told(number)


def _record(row: Row, columns: Columns) -> dict[str, Any]:
    values = {"path": row.path, **row.answer, "note": row.note, "error": row.error, "model": row.model}
    return {name: values.get(name) for name in columns}


def _images_sha256(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        # As the row has it.
        text = os.fsencode(name).decode("utf-8", "backslashreplace")
        digest.update(f"{text}\0{_state_of(text)}\0".encode())
    return digest.hexdigest()


def _state_of(name: str) -> str:
    """Size and time of change of the file, or of the archive that it lies in; empty for what is no file here."""
    if "://" in name:
        return ""
    for path in (Path(name), *Path(name).parents):
        try:
            found = path.stat()
        except (OSError, ValueError):
            continue
        return f"{found.st_size} {found.st_mtime_ns}" if stat.S_ISREG(found.st_mode) else ""
    return ""


def _record_at(file: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = read_json(file)
    except (OSError, ValueError):
        return None
    return record


def _locked(handle: int) -> bool:
    """The lock goes with the process, however it ends."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _concatenate(target: Path, header: bytes, parts: list[Path]) -> None:
    with target.open("wb") as joined:
        joined.write(header)
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, joined)


def _schema(columns: Columns) -> Any:
    import pyarrow as pa

    kinds = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
