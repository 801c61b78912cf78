"""Batches for training and evaluation, read from the packed splits.

Shapes: N images of a split, B images of a batch, H height, W width, C channels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from components.data.augmentation.augmenter import AugmentSettings, Draw, augmenter
from components.data.packed.image_stores import ImageRows, open_images
from components.data.packed.packing import INDEX, read_dataset
from components.shared.errors import DataError
from components.task.task import Task

_MOST_IMAGES, _BATCH_PIXELS = 128, 2 * 10**6


class Batch(NamedTuple):
    images_BHWC: Tensor
    """uint8."""
    target: Tensor
    """Class indices, int64 [B]; with many labels per image, bool [B, K]."""
    weight_B: Tensor
    """Weight of each image's loss in training, float32."""


_BatchOfEpoch = tuple[int, NDArray[np.int64]]


@dataclass(frozen=True)
class PackedSplit:
    """One packed split, mapped into memory."""

    pixels_NHWC: ImageRows
    task: Task
    target: NDArray[Any]
    """Class indices, int64 [N]; with many labels per image, bool [N, K]."""
    weight_N: NDArray[np.float32]
    """Weight of each image's loss in training; 1 if the source has none."""
    path_N: list[str]
    sha256_N: list[str]
    copy_N: NDArray[np.int64]
    """0 for an original, else the number of its augmented copy."""

    def __len__(self) -> int:
        return len(self.pixels_NHWC)


def open_split(folder: Path, split: str) -> PackedSplit:
    dataset = read_dataset(folder)
    index = pq.read_table(folder / INDEX)
    index = index.filter(pc.equal(index["split"], split)).sort_by("row")
    if not len(index):
        raise DataError(f"the {split} split holds no images; change split.fractions or add images")
    return PackedSplit(
        pixels_NHWC=open_images(folder, split, index, side_px=dataset.image_size_px),
        task=dataset.labels,
        target=_targets(dataset.labels, index),
        weight_N=index["weight"].to_numpy().astype(np.float32),
        path_N=index["path"].to_pylist(),
        sha256_N=index["sha256"].to_pylist(),
        copy_N=index["copy"].to_numpy(),
    )


def _targets(task: Task, index: Any) -> NDArray[Any]:
    """Targets of all images, computed once for each distinct label text: a million images have few."""
    texts = index["label"].combine_chunks().dictionary_encode()
    text_N = texts.indices.to_numpy()
    _, first = np.unique(text_N, return_index=True)
    target_of_text: NDArray[Any] = task.targets(index["labels"].take(pa.array(first)).to_pylist())
    target: NDArray[Any] = target_of_text[text_N]
    return target


def training_loader(
    split: PackedSplit,
    *,
    batch_size: int,
    seed: int,
    augment: AugmentSettings | None,
    workers: int,
    probability_N: NDArray[np.float64] | None = None,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[Batch]:
    """Shuffled batches; originals get new augmentations each epoch. Equal for any number of workers."""
    return DataLoader(
        _Batches(split, augment),
        sampler=ShuffledBatches(len(split), batch_size, seed, probability_N=probability_N, rank=rank, world=world),
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def inference_batch(side_px: int) -> int:
    """Images of a batch without gradients: enough to keep a processor busy, few enough for their activations.

    At 224 px the first layers of a small network take 15 MB an image.
    """
    return max(8, min(_MOST_IMAGES, _BATCH_PIXELS // side_px**2))


def evaluation_loader(split: PackedSplit, *, batch_size: int, rank: int = 0, world: int = 1) -> DataLoader[Batch]:
    """Every image in order; each of `world` processes gets its fraction of every batch, which may be empty."""
    order = _OrderedBatches(len(split), batch_size, rank, world)
    return DataLoader(_Batches(split, None), sampler=order, batch_size=None)


class _Batches(Dataset[Batch]):
    def __init__(self, split: PackedSplit, augment: AugmentSettings | None) -> None:
        self._split = split
        self._augment = augment
        self._draw: Draw | None = None

    def __getitem__(self, batch: _BatchOfEpoch) -> Batch:
        epoch, row_B = batch
        images = self._split.pixels_NHWC[row_B] if self._has_no_augmentation else self._augmented(epoch, row_B)
        target, weight_B = self._split.target[row_B], self._split.weight_N[row_B]
        return Batch(torch.from_numpy(images), torch.from_numpy(target), torch.from_numpy(weight_B))

    @property
    def _has_no_augmentation(self) -> bool:
        return self._augment is None or self._augment.policy == "none"

    def _augmented(self, epoch: int, row_B: NDArray[np.int64]) -> NDArray[np.uint8]:
        split = self._split
        assert self._augment is not None
        self._draw = self._draw or augmenter(self._augment)
        images = np.empty((len(row_B), *split.pixels_NHWC.shape[1:]), np.uint8)
        # One by one, as views of the file: the augmentation makes its own copy.
        for index, row in enumerate(row_B.tolist()):
            pixels_SSC = split.pixels_NHWC[row]
            images[index] = pixels_SSC if split.copy_N[row] else self._draw(pixels_SSC, split.path_N[row], epoch)
        return images


class ShuffledBatches(Sampler[_BatchOfEpoch]):
    """Shuffled batches; their order is a function of seed and epoch alone, so an epoch can resume anywhere.

    With `probability_N`, images are sampled with replacement, else each comes once. Each of `world` processes gets an
    equal fraction of every batch; a remainder is left out of this epoch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        *,
        probability_N: NDArray[np.float64] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self._probability_N, self._rank, self._world = probability_N, rank, world
        self._epoch = self._first = 0

    def begin_at(self, epoch: int, batch: int) -> None:
        """Starts the next pass at this batch of this epoch."""
        self._epoch, self._first = epoch, batch

    def __len__(self) -> int:
        # Batch norm can't train on a single image: such a remainder is left out (a different image each epoch).
        return self._count // self._batch_size + (self._count % self._batch_size >= 2 * self._world)

    def __iter__(self) -> Iterator[_BatchOfEpoch]:
        random = np.random.default_rng([self._seed, self._epoch])
        if self._probability_N is None:
            order = random.permutation(self._count)
        else:
            order = random.choice(self._count, self._count, p=self._probability_N)
        for number in range(self._first, len(self)):
            batch = order[number * self._batch_size : (number + 1) * self._batch_size]
            even = len(batch) // self._world * self._world
            yield self._epoch, batch[self._rank : even : self._world]


class _OrderedBatches(Sampler[_BatchOfEpoch]):
    def __init__(self, count: int, batch_size: int, rank: int, world: int) -> None:
        self._count, self._batch_size, self._rank, self._world = count, batch_size, rank, world

    def __len__(self) -> int:
        return -(-self._count // self._batch_size)

    def __iter__(self) -> Iterator[_BatchOfEpoch]:
        for start in range(0, self._count, self._batch_size):
            yield 0, np.arange(start, min(start + self._batch_size, self._count))[self._rank :: self._world]
