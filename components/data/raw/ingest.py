"""Packing a source into a new version of the raw data, which keeps what the version before already holds.

Growing costs about reading the source once. Known bytes (by their SHA-256) keep their place; the shard that holds them
is hard-linked, not copied. New bytes go to new shards. A row keeps its generation, under a new path too; a further
copy of known bytes is a new row, and has the new generation: else earlier images would be dealt out otherwise.
A shard that no row uses any more is left out. A shard is repacked when more than half of it is unused, and small shards
are joined once many have gathered.
A source that shares no image with the version before starts anew, as if there had been none.
"""

import hashlib
import io
import os
import re
import shutil
import tarfile
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa

from components.data.raw.dataset import (
    DATASET,
    FURTHER,
    MANIFEST,
    SCHEMA,
    RawDataset,
    RawFile,
    RawImages,
    read_manifest,
)
from components.data.sources import Source, SourceImage
from components.shared.errors import DarkroomError, DataError
from components.shared.files import DISK_FULL, write_json
from components.shared.parquet import write_table
from components.shared.progress import Progress, track

SHARD_BYTES = 256 << 20
MANY_SMALL_SHARDS = 32
"""So many shards of less than a sixteenth of SHARD_BYTES are joined when new images come in."""

_READERS, _AHEAD = 8, 32
"""Threads that read the source, and images that may wait in memory."""


@dataclass(frozen=True)
class RawVersion:
    rows: list[RawFile]
    num_new: int
    """Rows beyond those of the version before, further copies of its images too; all of them in a first version."""
    num_repacked: int
    """Shards of the version before whose images moved into new ones."""


@dataclass(frozen=True)
class _Place:
    shard: str
    offset: int
    size_bytes: int

    @property
    def shard_bytes(self) -> int:
        return tarfile.BLOCKSIZE + _padded(self.size_bytes, tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class _Known:
    """What the version before holds."""

    folder: Path | None
    places: dict[str, _Place]
    """By SHA-256."""
    ingest_ids: dict[str | None, dict[str, int]]
    """Of each row, by SHA-256 and path; under None the files that could not be taken."""

    @property
    def next_ingest_id(self) -> int:
        return max((each for rows in self.ingest_ids.values() for each in rows.values()), default=-1) + 1


@dataclass(frozen=True)
class _Taken:
    image: SourceImage
    sha256: str | None
    problem: str | None


def write_raw(source: Source, folder: Path, *, before: Path | None = None, progress: Progress) -> RawVersion:
    """Packs the source into `folder`, beside the version `before`. Equal sources and versions give equal bytes.

    Raises DataError where no file can be read, DarkroomError where the disk is full.
    """
    try:
        return _write(source, folder, _known(before), progress)
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        said = os.strerror(problem.errno).lower()
        raise DarkroomError(f"the disk of {folder.parent} is full ({said}); free some space and ingest again") from None


def _write(source: Source, folder: Path, known: _Known, progress: Progress) -> RawVersion:
    folder.mkdir(parents=True, exist_ok=True)
    ingest_id = known.next_ingest_id
    places = dict(known.places)
    taken = []
    with _ShardWriter(folder, first=_shards_ever(known)) as shards:
        ahead = track(_take_ahead(source.images), task="ingest", total=len(source.images), progress=progress)
        for image, found in ahead:
            if isinstance(found, str):
                taken.append(_Taken(image, None, found))
                continue
            if found.sha256 not in places:
                places[found.sha256] = shards.add(found.sha256, image.path, found.content)
            taken.append(_Taken(image, found.sha256, None))
        _refuse_unreadable(taken)
        moved = _carry_over(known, {one.sha256: one.image.path for one in taken if one.sha256}, shards, folder)
    taken.sort(key=lambda one: one.image.path)
    places |= moved
    rows = [
        _row(source, one, places.get(one.sha256 or ""), number)
        for one, number in zip(taken, _ingest_ids(taken, known, ingest_id), strict=True)
    ]
    if not any(row.sha256 in known.ingest_ids for row in rows if row.sha256):
        rows, ingest_id = _anew(rows, folder, _shards_ever(known)), 0
    schema = SCHEMA.append(FURTHER) if any(row.further for row in rows) else SCHEMA
    write_table(folder / MANIFEST, pa.Table.from_pylist([vars(row) for row in rows], schema=schema))
    write_json(folder / DATASET, asdict(RawDataset(source.task, list(source.levels))))
    return RawVersion(
        rows,
        num_new=sum(row.ingest_id == ingest_id for row in rows),
        num_repacked=len({known.places[sha256].shard for sha256 in moved}),
    )


def _ingest_ids(taken: list[_Taken], known: _Known, newest: int) -> list[int]:
    """As many rows of one content as there were keep their generations; a row under its old path comes first.

    Of fewer rows the earliest generations stay: where an original goes and its copy stays, the copy takes its place.
    """
    found = [newest] * len(taken)
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(taken):
        before = known.ingest_ids.get(one.sha256, {})
        if one.sha256 is None:
            found[row] = before.get(one.image.path, newest)
        elif before:
            rows_of[one.sha256].append(row)
    for sha256, rows in rows_of.items():
        before = known.ingest_ids[sha256]
        # In order of path already, and the sort is stable.
        rows.sort(key=lambda row: before.get(taken[row].image.path, newest))
        for row, ingest_id in zip(rows, sorted(before.values()), strict=False):
            found[row] = ingest_id
    return found


def _row(source: Source, one: _Taken, place: _Place | None, ingest_id: int) -> RawFile:
    image = one.image
    return RawFile(
        path=image.path,
        label=source.label_of(image),
        labels=list(image.labels),
        group=image.group,
        timestamp=image.timestamp,
        weight=image.weight,
        given_split=image.given_split,
        sha256=one.sha256,
        size_bytes=place.size_bytes if place else 0,
        shard=place.shard if place else None,
        offset=place.offset if place else 0,
        problem=one.problem,
        ingest_id=ingest_id,
        further=image.further,
    )


def _refuse_unreadable(taken: list[_Taken]) -> None:
    if all(one.problem is not None for one in taken):
        first = taken[0]
        raise DataError(f"none of the {len(taken)} files can be read, for one {first.image.path}: {first.problem}")


def _anew(rows: list[RawFile], folder: Path, first: int) -> list[RawFile]:
    """Shards and generations numbered from 0: going back to an earlier source then gives its earlier version."""
    names = {name: _shard_name(number - first) for number, name in _shards_in(folder)}
    for name in sorted(names):
        (folder / name).rename(folder / names[name])
    return [replace(row, shard=names[row.shard] if row.shard else None, ingest_id=0) for row in rows]


@dataclass(frozen=True)
class _Content:
    content: bytes
    sha256: str


def _take_ahead(images: list[SourceImage]) -> Iterator[tuple[SourceImage, _Content | str]]:
    """Each image, in order, with its bytes or the reason why there are none; read a little ahead of who asks."""
    waiting: deque[tuple[SourceImage, Future[_Content | str]]] = deque()
    threads = ThreadPoolExecutor(_READERS)
    try:
        for image in images:
            waiting.append((image, threads.submit(_take, image)))
            if len(waiting) == _AHEAD:
                first, found = waiting.popleft()
                yield first, found.result()
        while waiting:
            first, found = waiting.popleft()
            yield first, found.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _take(image: SourceImage) -> _Content | str:
    if image.problem is not None:
        return image.problem
    try:
        content = image.read()
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    return _Content(content, hashlib.sha256(content).hexdigest())


def _known(before: Path | None) -> _Known:
    if before is None or not (before / MANIFEST).exists():
        return _Known(None, {}, {})
    try:
        rows = read_manifest(before)
    except DataError:  # of an older release: everything is new
        return _Known(before, {}, {})
    whole = _whole_shards(before, rows)
    places = {
        row.sha256: _Place(row.shard, row.offset, row.size_bytes) for row in rows if row.sha256 and row.shard in whole
    }
    ingest_ids: defaultdict[str | None, dict[str, int]] = defaultdict(dict)
    for row in rows:
        ingest_ids[row.sha256][row.path] = row.ingest_id
    return _Known(before, places, dict(ingest_ids))


def _whole_shards(folder: Path, rows: list[RawFile]) -> set[str]:
    """Shards that reach as far as the rows say; one that was cut or removed is not built upon."""
    ends: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        if row.shard is not None:
            ends[row.shard] = max(ends[row.shard], row.offset + row.size_bytes)
    sizes = {name: (folder / name).stat().st_size for name in ends if (folder / name).exists()}
    return {name for name, end in ends.items() if sizes.get(name, -1) >= end}


def _carry_over(known: _Known, wanted: dict[str, str], shards: "_ShardWriter", folder: Path) -> dict[str, _Place]:
    """Links the shards that stay into `folder`; returns the new places of the images whose shards are repacked.

    `wanted` holds a path for each SHA-256 that the new version has.
    """
    used: defaultdict[str, list[str]] = defaultdict(list)
    for sha256, place in known.places.items():
        if sha256 in wanted:
            used[place.shard].append(sha256)
    if known.folder is None:
        return {}
    moved = {}
    repacked = _to_repack(known, used, growing=shards.started)
    with RawImages(known.folder) as store:
        for name in sorted(used):
            if name not in repacked:
                _link(known.folder / name, folder / name)
                continue
            for sha256 in sorted(used[name], key=lambda sha256: known.places[sha256].offset):
                place = known.places[sha256]
                content = store.read(place.shard, place.offset, place.size_bytes)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise DataError(f"{known.folder / name}: is damaged; restore the raw data with `dvc checkout`")
                moved[sha256] = shards.add(sha256, wanted[sha256], content)
    return moved


def _to_repack(known: _Known, used: dict[str, list[str]], *, growing: bool) -> set[str]:
    assert known.folder is not None
    wasteful, small = set(), set()
    for name, members in used.items():
        size = (known.folder / name).stat().st_size
        live = sum(known.places[sha256].shard_bytes for sha256 in members)
        unused = size - _padded(live + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)
        if unused > live:
            wasteful.add(name)
        if size < SHARD_BYTES // 16:
            small.add(name)
    # Only while new shards come in anyway: the same source again must change nothing.
    return wasteful | small if growing and len(small) >= MANY_SMALL_SHARDS else wasteful


def _link(existing: Path, target: Path) -> None:
    try:
        os.link(existing.resolve(), target)
    except OSError:  # a file system without links, or a cache on another one
        shutil.copy2(existing, target)


def _shards_ever(known: _Known) -> int:
    """The number of the first new shard: no name of the version before gets other content."""
    numbers = [number for number, _ in _shards_in(known.folder)] if known.folder else []
    return max(numbers, default=-1) + 1


def _shards_in(folder: Path) -> list[tuple[int, str]]:
    found = [re.fullmatch(r"images-(\d+)\.tar", entry.name) for entry in folder.iterdir()]
    return sorted((int(name[1]), name[0]) for name in found if name)


def _shard_name(number: int) -> str:
    return f"images-{number:05d}.tar"


def _padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


class _ShardWriter:
    def __init__(self, folder: Path, first: int) -> None:
        self._folder = folder
        self._next = first
        self._name = ""
        self._tar: tarfile.TarFile | None = None
        self.started = False

    def add(self, sha256: str, path: str, content: bytes) -> _Place:
        """Where the first byte of the content lies."""
        if self._tar is None or self._tar.offset > SHARD_BYTES:
            self._start()
        assert self._tar is not None
        # Named by content, a member never needs more than one header block; time, owner and mode are fixed.
        entry = tarfile.TarInfo(sha256 + PurePosixPath(path).suffix.lower()[:6])
        entry.size = len(content)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(entry, io.BytesIO(content))
        return _Place(self._name, offset, len(content))

    def _start(self) -> None:
        self.close()
        self._name = _shard_name(self._next)
        self._next += 1
        self.started = True
        self._tar = tarfile.open(  # noqa: SIM115 - open for as long as the shard grows
            self._folder / self._name, "w", format=tarfile.USTAR_FORMAT
        )

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
