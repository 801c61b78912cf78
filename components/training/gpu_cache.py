"""Training images cached in GPU memory, and flipped and shifted there.

Shapes: N images of the split, B images of a batch, H height, W width, C channels.
"""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from components.data.augmentation.augmenter import AugmentSettings
from components.data.packed.loaders import Batch, PackedSplit, ShuffledBatches
from components.shared.errors import SettingsError
from components.training.settings import TrainingJob

_MEMORY_FRACTION = 0.4
"""Fraction of the device's free memory that images may fill; the network and its activations need the rest."""
_REPLACED = "basic"
"""The policy that shifts and flips on the device replace."""
_SHIFT = 1 / 8
"""Largest shift, as a fraction of the side: 4 of CIFAR's 32 pixels (He et al. 2016)."""
_RANDOM_BYTES = 8
"""Random bytes of an image in an epoch: 16 bits for each of its four random numbers."""


def fits(split: PackedSplit, device: torch.device) -> bool:
    """Whether the pixels leave enough memory on the device; never on a CPU, where a memory-mapped file does as well."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return int(np.prod(split.pixels_NHWC.shape)) <= _MEMORY_FRACTION * free


def caches_on_gpu(job: TrainingJob, split: PackedSplit, device: torch.device) -> bool:
    """Whether images are cached on the GPU; for `auto`, where that changes no result and they fit.

    Raises SettingsError where the augmentation policy can't be computed there.
    """
    if job.train.cache_on_gpu == "on" and job.augments and job.augment.policy != _REPLACED:
        raise SettingsError(
            f"params.yaml: train.cache_on_gpu: is on, which only shifts and flips, but augment.policy is "
            f"{job.augment.policy}; set that to {_REPLACED} or none, or train.cache_on_gpu to auto"
        )
    if job.train.cache_on_gpu == "auto":
        return not job.augments and fits(split, device)
    return job.train.cache_on_gpu == "on"


class GpuCachedBatches:
    """A training loader that starts anywhere in an epoch; its transforms are a function of seed, epoch and image."""

    def __init__(
        self,
        split: PackedSplit,
        order: ShuffledBatches,
        position: Callable[[], tuple[int, int]],
        *,
        device: torch.device,
        augment: AugmentSettings | None,
    ) -> None:
        self._order, self._position, self._augment = order, position, augment
        self._images_NHWC = torch.from_numpy(np.array(split.pixels_NHWC[:])).to(device)
        self._target = torch.from_numpy(split.target).to(device)
        self._weight_N = torch.from_numpy(split.weight_N).to(device)
        self._path_N, self._copy_N = split.path_N, split.copy_N

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._position()
        self._order.begin_at(epoch, first)
        device = self._images_NHWC.device
        transforms_N4 = None if self._augment is None else self._transforms(self._augment, epoch).to(device)
        for _, rows in self._order:
            rows_B = torch.from_numpy(rows).to(device)
            images_BHWC = self._images_NHWC[rows_B]
            if transforms_N4 is not None:
                images_BHWC = shift_and_flip(images_BHWC, transforms_N4[rows_B])
            yield Batch(images_BHWC, self._target[rows_B], self._weight_N[rows_B])

    def _transforms(self, augment: AugmentSettings, epoch: int) -> Tensor:
        """Each image's rows and columns to shift by, and whether to flip it horizontally and vertically, [N, 4].

        Copies that the augment stage made stay as they are.
        """
        random_N4 = _random(augment.seed, epoch, self._path_N).astype(np.int64)
        margin = _margin(self._images_NHWC.shape[1])
        shift_N2 = random_N4[:, :2] % (2 * margin + 1) - margin
        flip_N2 = random_N4[:, 2:] % 2 * [augment.flips != "none", augment.flips == "both"]
        return torch.from_numpy(np.hstack([shift_N2, flip_N2]) * (self._copy_N == 0)[:, None])


def _random(seed: int, epoch: int, path_N: list[str]) -> NDArray[np.uint16]:
    """Four numbers for each image, [N, 4], from seed, epoch and path alone, whatever else the split holds."""
    digests = (
        hashlib.blake2b(f"{seed} {epoch} {path}".encode(), digest_size=_RANDOM_BYTES).digest() for path in path_N
    )
    return np.frombuffer(b"".join(digests), "<u2").reshape(-1, 4)


def shift_and_flip(images_BHWC: Tensor, transforms_B4: Tensor) -> Tensor:
    """Each image shifted by its rows and columns with a reflected border, then flipped where its transform says so."""
    count, height, width, _ = images_BHWC.shape
    device, margin = images_BHWC.device, _margin(height)
    padded_BCHW = F.pad(images_BHWC.permute(0, 3, 1, 2).float(), [margin] * 4, mode="reflect")
    down_B1, right_B1, horizontal_B1, vertical_B1 = (transforms_B4[:, column, None] for column in range(4))
    rows_BH = margin + down_B1 + torch.arange(height, device=device)
    columns_BW = margin + right_B1 + torch.arange(width, device=device)
    columns_BW = torch.where(horizontal_B1.bool(), columns_BW.flip(1), columns_BW)
    rows_BH = torch.where(vertical_B1.bool(), rows_BH.flip(1), rows_BH)
    padded_BHWC = padded_BCHW.permute(0, 2, 3, 1)
    image_B = torch.arange(count, device=device)[:, None, None]
    return padded_BHWC[image_B, rows_BH[:, :, None], columns_BW[:, None, :]].to(torch.uint8)


def _margin(side_px: int) -> int:
    return max(1, round(_SHIFT * side_px))
