"""Packed parts: each part is one array of decoded images that a loader maps into memory, beside one index.

augmented/train.npy      uint8 [N, S, S, 3]; originals first, then the augmented copies
augmented/val.npy, test.npy
augmented/index.parquet  a row an array row: part, row, path, sha256, label, class_index, copy (0: the original)
augmented/dataset.json   classes, image size, channel statistics of the training originals, counts, digest
augmented/preview.png    originals of the training part beside their augmented copies
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from components.data.augmentation import AugmentSettings, Draw, augmenter
from components.data.decoding import decode
from components.data.parts import PARTS
from components.data.preprocessing import PreprocessSettings, to_square
from components.data.raw import RawImages
from components.data.tables import write_table
from components.errors import DataError
from components.files import read_json, whole_file, write_json
from components.progress import Progress

INDEX = "index.parquet"
DATASET = "dataset.json"
PREVIEW = "preview.png"
_PREVIEW_IMAGES, _PREVIEW_DRAWS, _PREVIEW_TILE_PX = 12, 7, 72
_BLOCK = 256

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True)
class SplitImage:
    """A row of the split."""

    path: str
    label: str
    part: str
    sha256: str
    shard: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Dataset:
    """What a model must know of the data it is trained on."""

    classes: list[str]
    image_size_px: int
    mean: list[float]
    """Per channel, of the training originals, in [0, 1]."""
    std: list[float]
    split_digest: str
    images: dict[str, int]
    """Originals in each part."""
    copies: int
    """Augmented training images that the stage wrote."""


def read_dataset(folder: Path) -> Dataset:
    if not (folder / DATASET).exists():
        raise DataError(f"{folder} holds no packed data; run `darkroom prepare` first")
    return Dataset(**read_json(folder / DATASET))


@dataclass(frozen=True)
class _Row:
    image: SplitImage
    copy: int


def pack(
    images: list[SplitImage],
    *,
    raw: Path,
    folder: Path,
    split_digest: str,
    preprocess: PreprocessSettings,
    augment: AugmentSettings,
    progress: Progress,
) -> Dataset:
    """Writes the packed parts. Equal inputs give equal bytes."""
    classes = sorted({image.label for image in images})
    index: list[dict[str, Any]] = []
    draw = augmenter(augment)
    originals: dict[str, NDArray[np.uint8]] = {}
    copies = _copies([image for image in images if image.part == "train"], augment)
    with RawImages(raw) as store:
        for part in PARTS:
            rows = [_Row(image, 0) for image in images if image.part == part]
            extra = copies if part == "train" else []
            with whole_file(folder / f"{part}.npy") as draft:
                array = _new_array(draft, len(rows) + len(extra), preprocess.image_size_px)
                _decode_into(array, rows, store, preprocess, task=f"pack {part}", progress=progress)
                _augment_into(array, rows, extra, draw, progress)
                array.flush()
            originals[part] = np.load(folder / f"{part}.npy", mmap_mode="r")[: len(rows)]
            index += [_index_row(row, place, classes) for place, row in enumerate([*rows, *extra])]
    write_table(folder / INDEX, pa.Table.from_pylist(index))
    mean, std = _channel_statistics(originals["train"])
    dataset = Dataset(
        classes=classes,
        image_size_px=preprocess.image_size_px,
        mean=mean,
        std=std,
        split_digest=split_digest,
        images={part: len(pixels) for part, pixels in originals.items()},
        copies=len(copies),
    )
    write_json(folder / DATASET, asdict(dataset))
    _write_preview(folder / PREVIEW, originals["train"], draw)
    return dataset


def _copies(training: list[SplitImage], settings: AugmentSettings) -> list[_Row]:
    """Copies of every image, then of rare classes until they have their share of the largest."""
    counts = Counter(image.label for image in training)
    least = math.ceil(settings.balance * max(counts.values(), default=0))
    rows = []
    for label, count in sorted(counts.items()):
        members = [image for image in training if image.label == label]
        wanted = max(count, least) * (1 + settings.copies) - count
        rows += [_Row(members[number % count], 1 + number // count) for number in range(wanted)]
    return rows


def _new_array(path: Path, count: int, size: int) -> np.memmap:
    array: np.memmap = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    return array


def _decode_into(
    array_NSSC: NDArray[np.uint8],
    rows: list[_Row],
    store: RawImages,
    preprocess: PreprocessSettings,
    *,
    task: str,
    progress: Progress,
) -> None:
    def square(place: int) -> None:
        image = rows[place].image
        content = store.read(image.shard, image.offset, image.size_bytes)
        pixels = decode(content, max_megapixels=preprocess.max_megapixels).pixels_HWC
        array_NSSC[place] = to_square(pixels, preprocess)

    for done, _ in enumerate(_on_all_cores(square, range(len(rows))), start=1):
        progress(task, done, len(rows))


def _on_all_cores(work: Any, items: Iterable[Item]) -> Iterator[Any]:
    # Pillow lets go of the interpreter lock while it decodes and resamples, so threads are enough.
    with ThreadPoolExecutor() as threads:
        yield from threads.map(work, items)


def _augment_into(
    array_NSSC: NDArray[np.uint8], rows: list[_Row], extra: list[_Row], draw: Draw, progress: Progress
) -> None:
    place_of = {row.image.path: place for place, row in enumerate(rows)}
    for number, row in enumerate(extra):
        original = np.array(array_NSSC[place_of[row.image.path]])
        # Copies count down from -1, epochs of training count up from 0: no draw is made twice.
        array_NSSC[len(rows) + number] = draw(original, row.image.path, -row.copy)
        progress("augment train", number + 1, len(extra))


def _index_row(row: _Row, place: int, classes: list[str]) -> dict[str, Any]:
    image = row.image
    return {
        "part": image.part,
        "row": place,
        "path": image.path,
        "sha256": image.sha256,
        "label": image.label,
        "class_index": classes.index(image.label),
        "copy": row.copy,
    }


def _channel_statistics(pixels_NSSC: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel in [0, 1], summed exactly, so that they don't depend on any order."""
    total = np.zeros(3, np.int64)
    squares = np.zeros(3, np.int64)
    for start in range(0, len(pixels_NSSC), _BLOCK):
        block = pixels_NSSC[start : start + _BLOCK].astype(np.int64)
        total += block.sum(axis=(0, 1, 2))
        squares += (block * block).sum(axis=(0, 1, 2))
    count = math.prod(pixels_NSSC.shape[:3])
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
    return (mean / 255).round(6).tolist(), (std / 255).round(6).tolist()


def _write_preview(target: Path, pixels_NSSC: NDArray[np.uint8], draw: Draw) -> None:
    """One row an image: the original, then draws of the policy."""
    chosen = np.linspace(0, len(pixels_NSSC) - 1, min(_PREVIEW_IMAGES, len(pixels_NSSC))).astype(int)
    tile = _PREVIEW_TILE_PX
    sheet = Image.new("RGB", (tile * (1 + _PREVIEW_DRAWS) + 8, tile * len(chosen)), "white")
    for line, place in enumerate(chosen):
        original = np.array(pixels_NSSC[place])
        draws = [draw(original, f"preview {place}", number) for number in range(_PREVIEW_DRAWS)]
        for column, pixels in enumerate([original, *draws]):
            shown = Image.fromarray(pixels).resize((tile - 2, tile - 2), Image.Resampling.NEAREST)
            sheet.paste(shown, (column * tile + (8 if column else 0), line * tile))
    with whole_file(target) as draft:
        sheet.save(draft, "PNG")
