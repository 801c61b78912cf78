"""The mild policies, drawn in two passes over the pixels: one affine map and one table of tones a channel.

The map holds mirror image, shift, scale and rotation together, so that an image is interpolated once; shifted and
enlarged, it is a crop. The tables hold brightness, contrast and tint. The numbers come
straight from a hash of the draw's seed, so that there is no generator whose state could depend on other draws.
Letters: H height, W width, C channels, L the 256 levels of a channel.
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
"""As many uniform numbers as a draw may take; a hash of 64 bytes would give 16."""


@dataclass(frozen=True)
class MildRanges:
    """Every number is drawn evenly between its range and the negative of it."""

    moved: float
    """Share of the draws that are shifted, scaled and rotated; the others stay where they are."""
    shift: float
    """In shares of the side, across and down by themselves; what comes in from outside is black."""
    scale: float
    """Added to 1, across and down by themselves."""
    turn_degrees: float
    lit: float
    """Share of the draws whose tones change."""
    brightness: float
    """Added to every pixel, in shares of white."""
    contrast: float
    """Added to the factor 1 of every pixel."""
    tint: float
    """Added to the factor 1 of each channel by itself."""


BASIC = MildRanges(moved=0.9, shift=0.08, scale=0.1, turn_degrees=10, lit=0.5, brightness=0.2, contrast=0.2, tint=0.1)
MEDICAL = MildRanges(
    moved=0.8, shift=0.03, scale=0.03, turn_degrees=5, lit=0.3, brightness=0.05, contrast=0.05, tint=0.0
)


class MildDraws:
    """A step of a policy: (pixels_HWC, seed) → an image of the same shape; keeps no state between draws."""

    def __init__(self, ranges: MildRanges, flips: Flips) -> None:
        self._ranges, self._flips = ranges, flips

    def __call__(self, pixels_HWC: NDArray[np.uint8], seed: bytes) -> NDArray[np.uint8]:
        numbers = _NUMBERS.unpack(hashlib.blake2b(seed, digest_size=_NUMBERS.size).digest())
        across, down, moved, lit, *shares = (number / 2**32 for number in numbers)
        right, up, wide, tall, turn, brightness, contrast, *tints = (2 * share - 1 for share in shares)
        ranges = self._ranges
        mirrored = self._flips != "none" and across < 0.5, self._flips == "both" and down < 0.5
        if moved < ranges.moved:
            map_23 = _affine(
                pixels_HWC.shape[:2],
                shift=(right * ranges.shift, up * ranges.shift),
                scale=(1 + wide * ranges.scale, 1 + tall * ranges.scale),
                turn_degrees=turn * ranges.turn_degrees,
                mirrored=mirrored,
            )
            pixels_HWC = _warped(pixels_HWC, map_23)
        else:
            pixels_HWC = _mirrored(pixels_HWC, mirrored)
        if lit < ranges.lit:
            lighter = _LEVELS * (1 + contrast * ranges.contrast) + 255 * brightness * ranges.brightness
            tones_LC = np.outer(lighter, [1 + tint * ranges.tint for tint in tints])
            pixels_HWC = _toned(pixels_HWC, np.rint(tones_LC.clip(0, 255)).astype(np.uint8))
        return pixels_HWC


def _warped(pixels_HWC: NDArray[np.uint8], map_23: NDArray[np.float64]) -> NDArray[np.uint8]:
    """OpenCV interpolates four channels in half the time of three, to the same values: one is lent and taken back."""
    height, width = pixels_HWC.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    four = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2RGBA)
    return np.asarray(
        cv2.cvtColor(cv2.warpAffine(four, map_23, (width, height), flags=flags), cv2.COLOR_RGBA2RGB), np.uint8
    )


def _mirrored(pixels_HWC: NDArray[np.uint8], mirrored: tuple[bool, bool]) -> NDArray[np.uint8]:
    """Written out, for whoever copies a reversed view reads it pixel by pixel."""
    if not any(mirrored):
        return pixels_HWC
    return np.asarray(cv2.flip(pixels_HWC, {(True, False): 1, (False, True): 0, (True, True): -1}[mirrored]), np.uint8)


def _toned(pixels_HWC: NDArray[np.uint8], tones_LC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.LUT(np.ascontiguousarray(pixels_HWC), tones_LC[:, None]), np.uint8)


def _affine(
    size: tuple[int, ...],
    *,
    shift: tuple[float, float],
    scale: tuple[float, float],
    turn_degrees: float,
    mirrored: tuple[bool, bool],
) -> NDArray[np.float64]:
    """[2, 3]: from a place in the drawn image to its place in the original, both measured from their middle.

    The drawn image is the original mirrored, scaled, turned and then shifted, so the way back is the reverse.
    """
    height, width = size
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    cosine, sine = math.cos(math.radians(turn_degrees)), math.sin(math.radians(turn_degrees))
    across = (-1 if mirrored[0] else 1) / scale[0]
    down = (-1 if mirrored[1] else 1) / scale[1]
    linear = ((across * cosine, across * sine), (-down * sine, down * cosine))
    from_x, from_y = middle_x + shift[0] * width, middle_y + shift[1] * height
    rows = [
        (one, other, middle - one * from_x - other * from_y)
        for (one, other), middle in zip(linear, (middle_x, middle_y), strict=True)
    ]
    return np.array(rows)
