"""Training images that stay in the device's memory, and are flipped and shifted there.

Letters: N images of the split, B images of a batch, H height, W width, C channels.
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

_MEMORY_SHARE = 0.4
"""Of the device's free memory that images may fill; the network and its activations need the rest."""
_REPLACED = "basic"
"""The policy that moves and flips of the device stand in for."""
_SHIFT = 1 / 8
"""Of the side, which an image moves at most: 4 of CIFAR's 32 pixels (He et al. 2016)."""
_DRAW_BYTES = 8
"""Of an image in an epoch: 16 bits for each of its four draws."""


def fits(split: PackedSplit, device: torch.device) -> bool:
    """Whether the split's pixels leave room on the device; on a CPU they do nothing that a mapped file doesn't."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return int(np.prod(split.pixels_NHWC.shape)) <= _MEMORY_SHARE * free


def caches_on_gpu(job: TrainingJob, split: PackedSplit, device: torch.device) -> bool:
    """What the settings say; for `auto` whether it can be done without another result.

    Raises SettingsError where images would be drawn in another way than the settings name.
    """
    if job.train.cache_on_gpu == "on" and job.draws and job.augment.policy != _REPLACED:
        raise SettingsError(
            f"params.yaml: train.cache_on_gpu: is on, which draws shifts and flips alone, but augment.policy is "
            f"{job.augment.policy}; set that to {_REPLACED} or none, or train.cache_on_gpu to auto"
        )
    if job.train.cache_on_gpu == "auto":
        return not job.draws and fits(split, device)
    return job.train.cache_on_gpu == "on"


class GpuCachedBatches:
    """A training loader that begins anywhere in an epoch; its draws are a function of seed, epoch and image."""

    def __init__(
        self,
        split: PackedSplit,
        order: ShuffledBatches,
        place: Callable[[], tuple[int, int]],
        *,
        device: torch.device,
        augment: AugmentSettings | None,
    ) -> None:
        self._order, self._place, self._augment = order, place, augment
        self._images_NHWC = torch.from_numpy(np.array(split.pixels_NHWC[:])).to(device)
        self._target = torch.from_numpy(split.target).to(device)
        self._weight_N = torch.from_numpy(split.weight_N).to(device)
        self._path_N, self._copy_N = split.path_N, split.copy_N

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._place()
        self._order.begin_at(epoch, first)
        device = self._images_NHWC.device
        draws_N4 = None if self._augment is None else self._draws(self._augment, epoch).to(device)
        for _, places in self._order:
            places_B = torch.from_numpy(places).to(device)
            images_BHWC = self._images_NHWC[places_B]
            if draws_N4 is not None:
                images_BHWC = moved(images_BHWC, draws_N4[places_B])
            yield Batch(images_BHWC, self._target[places_B], self._weight_N[places_B])

    def _draws(self, augment: AugmentSettings, epoch: int) -> Tensor:
        """Of each image of the split in an epoch: rows and columns to move by, and whether to mirror and to upend it,
        [N, 4]. What the stage has augmented stays as it is."""
        random_N4 = _random(augment.seed, epoch, self._path_N).astype(np.int64)
        margin = _margin(self._images_NHWC.shape[1])
        shift_N2 = random_N4[:, :2] % (2 * margin + 1) - margin
        flip_N2 = random_N4[:, 2:] % 2 * [augment.flips != "none", augment.flips == "both"]
        return torch.from_numpy(np.hstack([shift_N2, flip_N2]) * (self._copy_N == 0)[:, None])


def _random(seed: int, epoch: int, path_N: list[str]) -> NDArray[np.uint16]:
    """Four numbers an image, [N, 4], each from its seed, epoch and path alone, whatever else the split holds."""
    digests = (hashlib.blake2b(f"{seed} {epoch} {path}".encode(), digest_size=_DRAW_BYTES).digest() for path in path_N)
    return np.frombuffer(b"".join(digests), "<u2").reshape(-1, 4)


def moved(images_BHWC: Tensor, draws_B4: Tensor) -> Tensor:
    """Each image moved by its rows and columns, its border mirrored, then mirrored and upended where so drawn."""
    count, height, width, _ = images_BHWC.shape
    device, margin = images_BHWC.device, _margin(height)
    padded_BCHW = F.pad(images_BHWC.permute(0, 3, 1, 2).float(), [margin] * 4, mode="reflect")
    down_B1, right_B1, mirrored_B1, upended_B1 = (draws_B4[:, place, None] for place in range(4))
    rows_BH = margin + down_B1 + torch.arange(height, device=device)
    columns_BW = margin + right_B1 + torch.arange(width, device=device)
    columns_BW = torch.where(mirrored_B1.bool(), columns_BW.flip(1), columns_BW)
    rows_BH = torch.where(upended_B1.bool(), rows_BH.flip(1), rows_BH)
    padded_BHWC = padded_BCHW.permute(0, 2, 3, 1)
    place_B = torch.arange(count, device=device)[:, None, None]
    return padded_BHWC[place_B, rows_BH[:, :, None], columns_BW[:, None, :]].to(torch.uint8)


def _margin(side_px: int) -> int:
    return max(1, round(_SHIFT * side_px))
