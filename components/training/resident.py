"""Training images that stay in the device's memory, and are flipped and shifted there.

Letters: N images of the part, B images of a batch, H height, W width, C channels.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from components.data.augmentation import AugmentSettings
from components.data.loading import Batch, PackedPart, ShuffledBatches

_MEMORY_SHARE = 0.4
"""Of the device's free memory that images may fill; the network and its activations need the rest."""
_SHIFT = 1 / 8
"""Of the side, which an image moves at most: 4 of CIFAR's 32 pixels (He et al. 2016)."""


def fits(part: PackedPart, device: torch.device) -> bool:
    """Whether the part's pixels leave room on the device; on a CPU they do nothing that a mapped file doesn't."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return int(np.prod(part.pixels_NHWC.shape)) <= _MEMORY_SHARE * free


class ResidentBatches:
    """A training loader that begins anywhere in an epoch; its draws are a function of seed, epoch and batch."""

    def __init__(
        self,
        part: PackedPart,
        order: ShuffledBatches,
        place: Callable[[], tuple[int, int]],
        *,
        device: torch.device,
        augment: AugmentSettings | None,
    ) -> None:
        self._order, self._place, self._augment = order, place, augment
        self._images_NHWC = torch.from_numpy(np.array(part.pixels_NHWC[:])).to(device)
        self._target = torch.from_numpy(part.target).to(device)
        self._weight_N = torch.from_numpy(part.weight_N).to(device)
        self._random = torch.Generator(device)

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._place()
        self._order.begin_at(epoch, first)
        for number, (_, places) in enumerate(self._order, start=first):
            places_B = torch.from_numpy(places).to(self._images_NHWC.device)
            images_BHWC = self._images_NHWC[places_B]
            if self._augment is not None:
                self._random.manual_seed((self._augment.seed << 40) + (epoch << 20) + number)
                images_BHWC = draw(images_BHWC, self._augment, self._random)
            yield Batch(images_BHWC, self._target[places_B], self._weight_N[places_B])


def draw(images_BHWC: Tensor, augment: AugmentSettings, random: torch.Generator) -> Tensor:
    """Each image moved by up to an eighth of its side, its border mirrored, and flipped as `augment.flips` says."""
    count, height, width, _ = images_BHWC.shape
    device = images_BHWC.device

    def drawn(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=random, device=device)

    margin = max(1, round(_SHIFT * height))
    padded_BCHW = F.pad(images_BHWC.permute(0, 3, 1, 2).float(), [margin] * 4, mode="reflect")
    rows_BH = drawn(2 * margin + 1)[:, None] + torch.arange(height, device=device)
    columns_BW = drawn(2 * margin + 1)[:, None] + torch.arange(width, device=device)
    if augment.flips != "none":
        columns_BW = torch.where(drawn(2)[:, None].bool(), columns_BW.flip(1), columns_BW)
    if augment.flips == "both":
        rows_BH = torch.where(drawn(2)[:, None].bool(), rows_BH.flip(1), rows_BH)
    padded_BHWC = padded_BCHW.permute(0, 2, 3, 1)
    place_B = torch.arange(count, device=device)[:, None, None]
    return padded_BHWC[place_B, rows_BH[:, :, None], columns_BW[:, None, :]].to(torch.uint8)
