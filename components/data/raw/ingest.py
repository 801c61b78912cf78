"""Packing a source into a new version of the raw data, which reuses the shards of the previous version.

An ingest costs about as much as reading the source once. Bytes that the previous version has (by their SHA-256) stay in
their shard, which is hard-linked, not copied; new bytes go to new shards. A row keeps its ingest id, also under a new
path; a new copy of old bytes is a new row with the new id, so that earlier images are split as before.
Shards that no row uses are left out, shards more than half unused are repacked, and many small ones are merged.
A source that has no image in common with the previous version is packed from scratch, as if there were none.
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
from components.shared.plural import commonest
from components.shared.progress import Progress, track

SHARD_BYTES = 256 << 20
MANY_SMALL_SHARDS = 32
"""This many shards of less than a sixteenth of SHARD_BYTES are merged when new images arrive."""

_READERS, _AHEAD = 8, 32
"""Number of threads that read the source, and of images that may wait in memory."""


@dataclass(frozen=True)
class RawVersion:
    rows: list[RawFile]
    num_new: int
    """Rows that the previous version doesn't have, new copies of its images included; all rows of a first version."""
    num_repacked: int
    """Shards of the previous version whose images were moved into new ones."""


@dataclass(frozen=True)
class _Location:
    shard: str
    offset: int
    size_bytes: int

    @property
    def shard_bytes(self) -> int:
        return tarfile.BLOCKSIZE + _padded(self.size_bytes, tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class _Previous:
    """The previous version of the raw data."""

    folder: Path | None
    locations: dict[str, _Location]
    """By SHA-256."""
    ingest_ids: dict[str | None, dict[str, int]]
    """By SHA-256 and path; under None those of unreadable files."""

    @property
    def next_ingest_id(self) -> int:
        return max((each for rows in self.ingest_ids.values() for each in rows.values()), default=-1) + 1


@dataclass(frozen=True)
class _ReadImage:
    image: SourceImage
    sha256: str | None
    problem: str | None


def write_raw(source: Source, folder: Path, *, previous: Path | None = None, progress: Progress) -> RawVersion:
    """Packs the source into `folder`, beside the previous version. Equal sources and versions give equal bytes.

    Raises DataError where no file can be read, DarkroomError where the disk is full.
    """
    try:
        return _write(source, folder, _read_previous(previous), progress)
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        reason = os.strerror(problem.errno).lower()
        raise DarkroomError(
            f"the disk of {folder.parent} is full ({reason}); free some space and ingest again"
        ) from None


def _write(source: Source, folder: Path, previous: _Previous, progress: Progress) -> RawVersion:
    folder.mkdir(parents=True, exist_ok=True)
    ingest_id = previous.next_ingest_id
    locations = dict(previous.locations)
    images = []
    with _ShardWriter(folder, first=_first_new_shard(previous)) as shards:
        ahead = track(_read_ahead(source.images), task="ingest", total=len(source.images), progress=progress)
        for image, found in ahead:
            if isinstance(found, str):
                images.append(_ReadImage(image, None, found))
                continue
            if found.sha256 not in locations:
                locations[found.sha256] = shards.add(found.sha256, image.path, found.content)
            images.append(_ReadImage(image, found.sha256, None))
        _refuse_unreadable(images)
        moved = _carry_over(previous, {one.sha256: one.image.path for one in images if one.sha256}, shards, folder)
    images.sort(key=lambda one: one.image.path)
    locations |= moved
    rows = [
        _row(source, one, locations.get(one.sha256 or ""), number)
        for one, number in zip(images, _ingest_ids(images, previous, ingest_id), strict=True)
    ]
    if not any(row.sha256 in previous.ingest_ids for row in rows if row.sha256):
        rows, ingest_id = _renumbered(rows, folder, _first_new_shard(previous)), 0
    schema = SCHEMA.append(FURTHER) if any(row.further for row in rows) else SCHEMA
    write_table(folder / MANIFEST, pa.Table.from_pylist([vars(row) for row in rows], schema=schema))
    write_json(folder / DATASET, asdict(RawDataset(source.task, list(source.levels))))
    return RawVersion(
        rows,
        num_new=sum(row.ingest_id == ingest_id for row in rows),
        num_repacked=len({previous.locations[sha256].shard for sha256 in moved}),
    )


def _ingest_ids(images: list[_ReadImage], previous: _Previous, newest: int) -> list[int]:
    """The ingest id of each row. Of one content as many rows as before keep their ids, those under an old path first.

    Where rows of a content disappear, the earliest ids stay: a copy inherits the id of its removed original.
    """
    ids = [newest] * len(images)
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(images):
        before = previous.ingest_ids.get(one.sha256, {})
        if one.sha256 is None:
            ids[row] = before.get(one.image.path, newest)
        elif before:
            rows_of[one.sha256].append(row)
    for sha256, rows in rows_of.items():
        before = previous.ingest_ids[sha256]
        # Sorted by path already, and the sort is stable.
        rows.sort(key=lambda row: before.get(images[row].image.path, newest))
        for row, ingest_id in zip(rows, sorted(before.values()), strict=False):
            ids[row] = ingest_id
    return ids


def _row(source: Source, one: _ReadImage, location: _Location | None, ingest_id: int) -> RawFile:
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
        size_bytes=location.size_bytes if location else 0,
        shard=location.shard if location else None,
        offset=location.offset if location else 0,
        problem=one.problem,
        ingest_id=ingest_id,
        further=image.further,
    )


def _refuse_unreadable(images: list[_ReadImage]) -> None:
    if all(one.problem is not None for one in images):
        first = images[0]
        reasons = commonest(str(one.problem) for one in images)
        raise DataError(f"none of the {len(images)} files can be read ({reasons}), for one {first.image.path}")


def _renumbered(rows: list[RawFile], folder: Path, first: int) -> list[RawFile]:
    """The rows, with shards and ingest ids numbered from 0: an earlier source then gives its earlier version again."""
    names = {name: _shard_name(number - first) for number, name in _shards_in(folder)}
    for name in sorted(names):
        (folder / name).rename(folder / names[name])
    return [replace(row, shard=names[row.shard] if row.shard else None, ingest_id=0) for row in rows]


@dataclass(frozen=True)
class _Content:
    content: bytes
    sha256: str


def _read_ahead(images: list[SourceImage]) -> Iterator[tuple[SourceImage, _Content | str]]:
    """Each image, in order, with its bytes or the reason why there are none; a few images are read ahead."""
    waiting: deque[tuple[SourceImage, Future[_Content | str]]] = deque()
    threads = ThreadPoolExecutor(_READERS)
    try:
        for image in images:
            waiting.append((image, threads.submit(_read, image)))
            if len(waiting) == _AHEAD:
                first, found = waiting.popleft()
                yield first, found.result()
        while waiting:
            first, found = waiting.popleft()
            yield first, found.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _read(image: SourceImage) -> _Content | str:
    if image.problem is not None:
        return image.problem
    try:
        content = image.read()
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"can't be read: {error.strerror or error}"
    except DataError as error:
        return str(error)
    return _Content(content, hashlib.sha256(content).hexdigest())


def _read_previous(folder: Path | None) -> _Previous:
    if folder is None or not (folder / MANIFEST).exists():
        return _Previous(None, {}, {})
    rows = read_manifest(folder)
    intact = _intact_shards(folder, rows)
    locations = {
        row.sha256: _Location(row.shard, row.offset, row.size_bytes)
        for row in rows
        if row.sha256 and row.shard in intact
    }
    ingest_ids: defaultdict[str | None, dict[str, int]] = defaultdict(dict)
    for row in rows:
        ingest_ids[row.sha256][row.path] = row.ingest_id
    return _Previous(folder, locations, dict(ingest_ids))


def _intact_shards(folder: Path, rows: list[RawFile]) -> set[str]:
    """Shards that are as long as the rows need; a missing one, or one that is cut short, is not reused."""
    ends: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        if row.shard is not None:
            ends[row.shard] = max(ends[row.shard], row.offset + row.size_bytes)
    sizes = {name: (folder / name).stat().st_size for name in ends if (folder / name).exists()}
    return {name for name, end in ends.items() if sizes.get(name, -1) >= end}


def _carry_over(
    previous: _Previous, wanted: dict[str, str], shards: "_ShardWriter", folder: Path
) -> dict[str, _Location]:
    """Links the reused shards into `folder`, and returns the new locations of the images of repacked ones.

    `wanted` holds a path for each SHA-256 of the new version.
    """
    used: defaultdict[str, list[str]] = defaultdict(list)
    for sha256, location in previous.locations.items():
        if sha256 in wanted:
            used[location.shard].append(sha256)
    if previous.folder is None:
        return {}
    moved = {}
    repacked = _to_repack(previous, used, growing=shards.started)
    with RawImages(previous.folder) as store:
        for name in sorted(used):
            if name not in repacked:
                _link(previous.folder / name, folder / name)
                continue
            for sha256 in sorted(used[name], key=lambda sha256: previous.locations[sha256].offset):
                location = previous.locations[sha256]
                content = store.read(location.shard, location.offset, location.size_bytes)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise DataError(f"{previous.folder / name}: is damaged; restore the raw data with `dvc checkout`")
                moved[sha256] = shards.add(sha256, wanted[sha256], content)
    return moved


def _to_repack(previous: _Previous, used: dict[str, list[str]], *, growing: bool) -> set[str]:
    assert previous.folder is not None
    wasteful, small = set(), set()
    for name, members in used.items():
        size = (previous.folder / name).stat().st_size
        live = sum(previous.locations[sha256].shard_bytes for sha256 in members)
        unused = size - _padded(live + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE)
        if unused > live:
            wasteful.add(name)
        if size < SHARD_BYTES // 16:
            small.add(name)
    # Only when new shards are written anyway: ingesting the same source again must change nothing.
    return wasteful | small if growing and len(small) >= MANY_SMALL_SHARDS else wasteful


def _link(existing: Path, target: Path) -> None:
    try:
        os.link(existing.resolve(), target)
    except OSError:  # a file system without links, or DVC's cache on another one
        shutil.copy2(existing, target)


def _first_new_shard(previous: _Previous) -> int:
    """Number of the first new shard: no shard name of the previous version gets other content."""
    numbers = [number for number, _ in _shards_in(previous.folder)] if previous.folder else []
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

    def add(self, sha256: str, path: str, content: bytes) -> _Location:
        """Appends the content and returns its location."""
        if self._tar is None or self._tar.offset > SHARD_BYTES:
            self._start()
        assert self._tar is not None
        # Named by its hash, a member needs one header block only; time, owner and mode are constant.
        entry = tarfile.TarInfo(sha256 + PurePosixPath(path).suffix.lower()[:6])
        entry.size = len(content)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(entry, io.BytesIO(content))
        return _Location(self._name, offset, len(content))

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
