"""Smaller images in the first epochs, resized on the device of the batch (Tan and Le 2021, section 4).

Shapes: B images, H height, W width, C channels.
"""

from torch import Tensor
from torch.nn import functional as F

_GROWTH = 2 / 3
"""Fraction of the epochs in which the side grows; the rest use the full size."""
_MULTIPLE_PX = 8
_IMAGES_NDIM = 4


def side_at(epoch: int, *, epochs: int, full_px: int, start: float) -> int:
    """Side in an epoch counted from 0: from `start` times the full one in even steps up to it, in multiples of 8."""
    growing = max(1.0, _GROWTH * epochs)
    fraction = min(1.0, start + (1 - start) * epoch / growing)
    return min(full_px, max(_MULTIPLE_PX, round(fraction * full_px / _MULTIPLE_PX) * _MULTIPLE_PX))


def shrink(images_BHWC: Tensor, side_px: int) -> Tensor:
    """The images resized to a side, uint8 or mixed; the same tensor where they have it, or for features [B, F]."""
    if images_BHWC.ndim != _IMAGES_NDIM or images_BHWC.shape[1] == side_px:
        return images_BHWC
    images_BCHW = images_BHWC.permute(0, 3, 1, 2)
    small_BCHW = F.interpolate(images_BCHW, size=(side_px, side_px), mode="bilinear", antialias=True)
    return small_BCHW.permute(0, 2, 3, 1)
