"""Packing of the splits: images at the model's size, in few large files that a loader maps into memory.

augmented/train-00000.npy …  the images of a split, originals first, then the augmented copies (stores.py)
augmented/index.parquet      a row per image: split, row, path, sha256, label, labels, weight, copy (0: original) and,
                             for a split stored as JPEG, shard, offset and size_bytes
augmented/dataset.json       labels, preprocessing, channel statistics of the training originals, counts, digest
augmented/preview.png        originals of the training split beside augmented images of the chosen policy
augmented/previews/          the same preview for every policy, and statistics.json
"""

import contextlib
import heapq
import math
import os
import shutil
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data.augmentation.augmenter import AugmentSettings, Draw, augmenter, preview_policies
from components.data.augmentation.preview import STATISTICS, write_preview
from components.data.images.channel_statistics import ChannelStatistics
from components.data.images.preprocessing import PreprocessSettings, square_of
from components.data.packed.image_stores import ImageRows, Location, Store, new_writer, open_images
from components.data.raw.dataset import RawImages
from components.data.split.names import SPLITS
from components.shared.errors import DarkroomError, DataError, first_line
from components.shared.files import DISK_FULL, atomic_file, atomic_folder, read_json, write_json
from components.shared.parquet import write_table
from components.shared.processor import usable_cores
from components.shared.progress import Progress
from components.task.task import Task
from components.task.task_types import task_from_record

INDEX = "index.parquet"
DATASET = "dataset.json"
PREVIEW = "preview.png"
PREVIEWS = "previews"
_CHUNK = 16
_JPEG_FRACTION = 0.3
"""Upper estimate of a JPEG's bytes over its pixels' bytes: photographs of clothes have 0.27 at 64 px, 0.15 at 224."""
_PREVIEW_IMAGES = 48

_INDEX = pa.schema(
    [
        ("split", pa.string()),
        ("row", pa.int64()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("label", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("weight", pa.float64()),
        ("copy", pa.int64()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("size_bytes", pa.int64()),
    ]
)

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class SplitImage:
    """One image of the split."""

    path: str
    label: str
    """Text of the labels: joined by "/" in a hierarchy, by "|" with many labels."""
    labels: list[str]
    """A single label, many labels, or the path of a hierarchy from coarse to fine."""
    weight: float | None
    """Weight of its loss in training; None counts as 1."""
    split: str
    sha256: str
    shard: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Dataset:
    """Facts about the packed data that a model needs."""

    labels: Task
    image_size_px: int
    preprocess: dict[str, Any]
    """Section of params.yaml with which the images were packed."""
    mean: list[float]
    """Mean of each channel over the training originals, in [0, 1]."""
    std: list[float]
    split_digest: str
    images: dict[str, int]
    """Number of originals in each split."""
    copies: int
    """Number of augmented training images."""
    stores: dict[str, Store]
    """Format of each split on disk."""

    @property
    def classes(self) -> list[str]:
        return self.labels.classes


def read_dataset(folder: Path) -> Dataset:
    if not (folder / DATASET).exists():
        raise DataError(f"{folder} holds no packed data; run `darkroom prepare` first")
    record = read_json(folder / DATASET)
    return Dataset(**(record | {"labels": task_from_record(DATASET, record["labels"])}))


@dataclass(frozen=True)
class _Row:
    image: SplitImage
    copy: int


def pack(
    images: list[SplitImage],
    *,
    labels: Task,
    raw: Path,
    folder: Path,
    split_digest: str,
    preprocess: PreprocessSettings,
    augment: AugmentSettings,
    progress: Progress,
) -> Dataset:
    """Writes the packed splits, whole or not at all. Equal inputs give equal bytes. A full disk is a DarkroomError."""
    rows = {split: [_Row(image, 0) for image in images if image.split == split] for split in SPLITS}
    if not rows["train"]:
        raise DataError("the train split holds no images; change split.fractions or add images")
    copies = _copies([row.image for row in rows["train"]], labels, augment)
    counts: dict[str, int] = {split: len(of) + (len(copies) if split == "train" else 0) for split, of in rows.items()}
    stores = _stores(counts, preprocess, augment)
    tables, statistics = [], ChannelStatistics()
    with _room_for(folder, _bytes_needed(counts, stores, preprocess)), atomic_folder(folder) as draft:
        with RawImages(raw) as source:
            for split in SPLITS:
                squares = _squares(rows[split], source, preprocess, task=f"pack {split}", progress=progress)
                if split == "train":
                    squares = map(statistics.added, squares)
                table = _write(draft, split, stores[split], rows[split], squares, preprocess)
                if split == "train":
                    originals = open_images(draft, split, table, side_px=preprocess.image_size_px)
                    _write_previews(draft, originals, augment, progress)
                    drawn = _drawn(copies, rows[split], originals, augment, progress)
                    more = _write(draft, split, stores[split], copies, drawn, preprocess, after=table)
                    table = pa.concat_tables([table, more])
                tables.append(table)
        mean, std = statistics.mean_and_std()
        dataset = Dataset(
            labels=labels,
            image_size_px=preprocess.image_size_px,
            preprocess=preprocess.model_dump(),
            mean=mean,
            std=std,
            split_digest=split_digest,
            images={split: len(of) for split, of in rows.items()},
            copies=len(copies),
            stores=stores,
        )
        write_table(draft / INDEX, pa.concat_tables(tables))
        write_json(draft / DATASET, asdict(dataset) | {"labels": labels.model_dump()})
    return dataset


def _copies(training: list[SplitImage], labels: Task, settings: AugmentSettings) -> list[_Row]:
    """Copies of every image, then of rare classes up to their fraction of the largest class."""
    members_of = defaultdict(list)
    for index, image in enumerate(training):
        for name in labels.classes_of(image.labels):
            members_of[name].append(index)
    largest = max(map(len, members_of.values()), default=0)
    # The setting is a decimal number: as a binary one, 0.1 · 30 would be more than 3.
    least = math.ceil(Fraction(str(settings.balance)) * largest)
    copies_N = np.zeros(len(training), np.int64)
    # The rarest class first: with many labels per image, its copies count for other classes too.
    for _, members in sorted(members_of.items(), key=lambda entry: (len(entry[1]), entry[0])):
        wanted = max(len(members), least) * (1 + settings.copies) - len(members)
        fewest = [(int(copies_N[index]), index) for index in members]
        for _ in range(wanted - sum(copies for copies, _ in fewest)):
            copies, index = heapq.heappop(fewest)
            heapq.heappush(fewest, (copies + 1, index))
            copies_N[index] += 1
    numbered = ((image, copy) for image, copies in zip(training, copies_N, strict=True) for copy in range(copies))
    return [_Row(image, 1 + copy) for image, copy in sorted(numbered, key=lambda one: (one[0].label, one[1]))]


def _stores(counts: dict[str, int], preprocess: PreprocessSettings, settings: AugmentSettings) -> dict[str, Store]:
    """Format of each split; val and test stay pixels, so that scores are of the exact pixels that serving sees."""
    pixels = sum(counts.values()) * 3 * preprocess.image_size_px**2
    fits = pixels <= settings.pixels_limit_gib * 2**30
    train: Store = ("pixels" if fits else "jpeg") if settings.store == "auto" else settings.store
    return {"train": train, "val": "pixels", "test": "pixels"}


def _bytes_needed(counts: dict[str, int], stores: dict[str, Store], preprocess: PreprocessSettings) -> int:
    fraction_of = {"pixels": 1.0, "jpeg": _JPEG_FRACTION}
    square = 3 * preprocess.image_size_px**2
    return math.ceil(sum(square * count * fraction_of[stores[split]] for split, count in counts.items()))


@contextlib.contextmanager
def _room_for(folder: Path, needed: int) -> Iterator[None]:
    """Raises DarkroomError if the disk is too small, before the work, or if it fills up meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    remedy = (
        "free some, lower preprocess.image_size_px or augment.copies, or set augment.store to jpeg; "
        "nothing half-packed was left"
    )
    if needed > free:
        raise DarkroomError(f"packing needs {_size(needed)} in {folder}, which has {_size(free)} free: {remedy}")
    try:
        yield
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        raise DarkroomError(
            f"packing needs about {_size(needed)} in {folder}, but its disk is full "
            f"({os.strerror(problem.errno).lower()}): {remedy}"
        ) from None


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _write(
    folder: Path,
    split: str,
    store: Store,
    rows: list[_Row],
    blocks: Iterable[NDArray[np.uint8]],
    preprocess: PreprocessSettings,
    *,
    after: pa.Table | None = None,
) -> pa.Table:
    """Writes the blocks in files of their own, behind those of `after`; returns the index of the rows."""
    first_row = 0 if after is None else len(after)
    first_shard = 0 if after is None else pc.max(after["shard"]).as_py() + 1
    writer = new_writer(
        store, folder, split, count=len(rows), side_px=preprocess.image_size_px, first_shard=first_shard
    )
    locations: list[Location] = []
    with contextlib.closing(writer):
        for block_NSSC in blocks:
            locations += writer.append(block_NSSC)
    columns = {
        "split": [split] * len(rows),
        "row": range(first_row, first_row + len(rows)),
        "path": [row.image.path for row in rows],
        "sha256": [row.image.sha256 for row in rows],
        "label": [row.image.label for row in rows],
        "labels": [row.image.labels for row in rows],
        "weight": [1.0 if row.image.weight is None else row.image.weight for row in rows],
        "copy": [row.copy for row in rows],
        "shard": [location.shard for location in locations],
        "offset": [location.offset for location in locations],
        "size_bytes": [location.size_bytes for location in locations],
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in _INDEX}, schema=_INDEX)


def _squares(
    rows: list[_Row], source: RawImages, preprocess: PreprocessSettings, *, task: str, progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """Yields blocks of decoded images, in the order of the rows."""

    def decoded(chunk: list[_Row]) -> NDArray[np.uint8]:
        return np.stack([_square(row.image, source, preprocess) for row in chunk])

    done = 0
    for block_NSSC in _on_all_cores(decoded, _chunks(rows)):
        yield block_NSSC
        done += len(block_NSSC)
        progress(task, done, len(rows))


def _square(image: SplitImage, source: RawImages, preprocess: PreprocessSettings) -> NDArray[np.uint8]:
    content = source.read(image.shard, image.offset, image.size_bytes)
    with _naming(image):
        return square_of(content, preprocess)


@contextlib.contextmanager
def _naming(image: SplitImage) -> Iterator[None]:
    """Adds the image's path to an error of the block; transforms and decoders raise errors of many types."""
    try:
        yield
    except DarkroomError as problem:
        raise type(problem)(f"{image.path}: {problem}") from None
    except (OSError, MemoryError):
        raise
    except Exception as problem:
        raise DataError(f"{image.path}: can't be packed: {first_line(problem)}; remove or replace it") from problem


def _drawn(
    copies: list[_Row], rows: list[_Row], originals: ImageRows, settings: AugmentSettings, progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """Yields blocks of augmented copies. Copies count down from -1, epochs up from 0: no random transform repeats."""
    index_of = {row.image.path: index for index, row in enumerate(rows)}
    # An augmenter may have generators of its own, so each thread takes one.
    free: SimpleQueue[Draw] = SimpleQueue()
    for _ in range(min(usable_cores(), len(copies))):
        free.put(augmenter(settings))

    def drawn(chunk: list[_Row]) -> NDArray[np.uint8]:
        pairs = zip(chunk, originals[[index_of[row.image.path] for row in chunk]], strict=True)
        draw = free.get()
        try:
            return np.stack([_copy(draw, row, pixels_SSC) for row, pixels_SSC in pairs])
        finally:
            free.put(draw)

    done = 0
    for block_NSSC in _on_all_cores(drawn, _chunks(copies)):
        yield block_NSSC
        done += len(block_NSSC)
        progress("augment train", done, len(copies))


def _copy(draw: Draw, row: _Row, pixels_SSC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with _naming(row.image):
        return draw(pixels_SSC, row.image.path, -row.copy)


def _chunks(rows: list[_Row]) -> Iterator[list[_Row]]:
    return (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))


def _on_all_cores(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields the results in order; computes only a few ahead of the consumer."""
    # OpenCV and Pillow release the interpreter lock while they work, so threads are enough.
    cores = usable_cores()
    with ThreadPoolExecutor(cores) as threads:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) > 3 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_previews(folder: Path, originals: ImageRows, settings: AugmentSettings, progress: Progress) -> None:
    """Writes a preview for every policy, so that they can be compared without a run."""
    chosen = np.unique(np.linspace(0, len(originals) - 1, min(_PREVIEW_IMAGES, len(originals))).astype(np.int64))
    sample_NSSC = originals[chosen]
    policies = preview_policies(settings)
    # Before the threads: albumentations changes the warnings of the whole process while it makes transforms.
    draws = [(policy, augmenter(one)) for policy, one in policies.items()]

    def written(policy_and_draw: tuple[str, Draw]) -> dict[str, Any]:
        policy, draw = policy_and_draw
        return write_preview(folder / PREVIEWS / f"{policy}.png", sample_NSSC, draw, title=policy)

    statistics = {}
    for done, (policy, both) in enumerate(zip(policies, _on_all_cores(written, draws), strict=True), start=1):
        statistics[policy] = both
        progress("preview", done, len(policies))
    write_json(folder / PREVIEWS / STATISTICS, statistics)
    if settings.policy in policies:
        with atomic_file(folder / PREVIEW) as draft:
            shutil.copyfile(folder / PREVIEWS / f"{settings.policy}.png", draft)
    else:
        write_preview(folder / PREVIEW, sample_NSSC, augmenter(settings), title=settings.policy)
