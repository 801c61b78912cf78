"""Smaller images for the first epochs, made of the batch where it is (Tan and Le 2021, section 4).

Letters: B images, H height, W width, C channels.
"""

from torch import Tensor
from torch.nn import functional as F

_GROWTH = 2 / 3
"""Of the epochs, in which the side grows; the rest see the full size."""
_MULTIPLE_PX = 8
_IMAGES = 4
"""Dimensions of a batch of images."""


def side_at(epoch: int, *, epochs: int, full_px: int, start: float) -> int:
    """The side in an epoch counted from 0: from `start` times the full one in even steps up to it, in whole eighths."""
    growing = max(1.0, _GROWTH * epochs)
    share = min(1.0, start + (1 - start) * epoch / growing)
    return min(full_px, max(_MULTIPLE_PX, round(share * full_px / _MULTIPLE_PX) * _MULTIPLE_PX))


def shrink(images_BHWC: Tensor, side_px: int) -> Tensor:
    """The images at that side, uint8 or mixed; the same tensor where they have it, or hold cached features [B, F]."""
    if images_BHWC.ndim != _IMAGES or images_BHWC.shape[1] == side_px:
        return images_BHWC
    images_BCHW = images_BHWC.permute(0, 3, 1, 2)
    small_BCHW = F.interpolate(images_BCHW, size=(side_px, side_px), mode="bilinear", antialias=True)
    return small_BCHW.permute(0, 2, 3, 1)
