"""The mild policies, in two passes over the pixels: one affine transform, and one lookup table per channel.

The affine transform combines flip, shift, scale and rotation, so that an image is interpolated once; shifted and
enlarged, it is a crop. The lookup tables combine brightness, contrast and tint. Random numbers come from a hash of the
seed, so that no state of a generator depends on earlier images.
Shapes: H height, W width, C channels, L the 256 levels of a channel.
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Flips = Literal["none", "horizontal", "both"]

_LEVELS = np.arange(256, dtype=np.float32)
_NUMBERS = struct.Struct("<14I")
"""The 14 uniform numbers of a random transform; a hash of 64 bytes could give 16."""


@dataclass(frozen=True)
class MildRanges:
    """Ranges of a mild policy; each number is uniform between the range and its negative."""

    affine_probability: float
    """Probability that an image is shifted, scaled and rotated."""
    shift: float
    """Fraction of the side, independent across and down; the uncovered border is black."""
    scale: float
    """Added to the factor 1, independent across and down."""
    rotation_degrees: float
    color_probability: float
    """Probability that brightness, contrast and tint change."""
    brightness: float
    """Added to every pixel, as a fraction of white."""
    contrast: float
    """Added to the factor 1 of every pixel."""
    tint: float
    """Added to the factor 1 of each channel, independently."""


BASIC = MildRanges(
    affine_probability=0.9,
    shift=0.08,
    scale=0.1,
    rotation_degrees=10,
    color_probability=0.5,
    brightness=0.2,
    contrast=0.2,
    tint=0.1,
)
MEDICAL = MildRanges(
    affine_probability=0.8,
    shift=0.03,
    scale=0.03,
    rotation_degrees=5,
    color_probability=0.3,
    brightness=0.05,
    contrast=0.05,
    tint=0.0,
)


class MildTransform:
    """A step of a policy: (pixels_HWC, seed) → an image of the same shape; keeps no state between images."""

    def __init__(self, ranges: MildRanges, flips: Flips) -> None:
        self._ranges, self._flips = ranges, flips

    def __call__(self, pixels_HWC: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        numbers = _NUMBERS.unpack(hashlib.blake2b(seed, digest_size=_NUMBERS.size).digest())
        horizontal, vertical, affine, color, *uniform = (number / 2**32 for number in numbers)
        right, up, wide, tall, rotation, brightness, contrast, *tints = (2 * number - 1 for number in uniform)
        ranges = self._ranges
        flipped = self._flips != "none" and horizontal < 0.5, self._flips == "both" and vertical < 0.5
        if affine < ranges.affine_probability:
            matrix_23 = _affine(
                pixels_HWC.shape[:2],
                shift=(right * ranges.shift, up * ranges.shift),
                scale=(1 + wide * ranges.scale, 1 + tall * ranges.scale),
                rotation_degrees=rotation * ranges.rotation_degrees,
                flipped=flipped,
            )
            pixels_HWC = _warp(pixels_HWC, matrix_23)
        else:
            pixels_HWC = _flip(pixels_HWC, flipped)
        if color < ranges.color_probability:
            level_L = _LEVELS * (1 + contrast * ranges.contrast) + 255 * brightness * ranges.brightness
            table_LC = np.outer(level_L, [1 + tint * ranges.tint for tint in tints])
            pixels_HWC = _apply_lookup_tables(pixels_HWC, np.rint(table_LC.clip(0, 255)).astype(np.uint8))
        return pixels_HWC


def _warp(pixels_HWC: NDArray[np.uint8], matrix_23: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Warps with a fourth channel added and removed: OpenCV interpolates four in half the time of three, equally."""
    height, width = pixels_HWC.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    four = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2RGBA)
    return np.asarray(
        cv2.cvtColor(cv2.warpAffine(four, matrix_23, (width, height), flags=flags), cv2.COLOR_RGBA2RGB), np.uint8
    )


def _flip(pixels_HWC: NDArray[np.uint8], flipped: tuple[bool, bool]) -> NDArray[np.uint8]:
    """A flipped copy: a reversed view would be copied pixel by pixel later."""
    if not any(flipped):
        return pixels_HWC
    return np.asarray(cv2.flip(pixels_HWC, {(True, False): 1, (False, True): 0, (True, True): -1}[flipped]), np.uint8)


def _apply_lookup_tables(pixels_HWC: NDArray[np.uint8], table_LC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.LUT(np.ascontiguousarray(pixels_HWC), table_LC[:, None]), np.uint8)


def _affine(
    size: tuple[int, ...],
    *,
    shift: tuple[float, float],
    scale: tuple[float, float],
    rotation_degrees: float,
    flipped: tuple[bool, bool],
) -> NDArray[np.float64]:
    """Matrix from a coordinate of the new image to that of the original, both measured from the center, shape [2, 3].

    The new image is the original flipped, scaled, rotated and then shifted, so the matrix is the inverse.
    """
    height, width = size
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    cosine, sine = math.cos(math.radians(rotation_degrees)), math.sin(math.radians(rotation_degrees))
    across = (-1 if flipped[0] else 1) / scale[0]
    down = (-1 if flipped[1] else 1) / scale[1]
    linear = ((across * cosine, across * sine), (-down * sine, down * cosine))
    from_x, from_y = middle_x + shift[0] * width, middle_y + shift[1] * height
    rows = [
        (one, other, middle - one * from_x - other * from_y)
        for (one, other), middle in zip(linear, (middle_x, middle_y), strict=True)
    ]
    return np.array(rows)
