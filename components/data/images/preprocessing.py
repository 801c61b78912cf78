"""From an image file to the square that the model sees, the same in training and serving."""

import math
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from components.data.images.decoding import decode
from components.shared.settings import Settings

_LEAST_TAP = 1 / 512
"""A smaller weight would round to zero in the fixed-point arithmetic of the smoothing."""


class PreprocessSettings(Settings):
    """params.yaml: preprocess."""

    image_size_px: int = Field(ge=8, le=1024)
    """Side of the square that the model sees; larger sees more, costs its square | auto: by model.compound."""
    resize: Literal["crop", "pad", "stretch"]
    """crop (the centre) | pad (with black bars) | stretch (ignoring the aspect)."""
    max_megapixels: float = Field(gt=0, le=178)
    """Larger images are quarantined before they are decoded.

    At most 178: Pillow itself refuses larger images as decompression bombs.
    """


def square_of(content: bytes, settings: PreprocessSettings) -> NDArray[np.uint8]:
    """The bytes of an image file as the square that the model sees, in packing and in serving; raises UndecodableImage.

    A large JPEG is decoded at 1/2, 1/4 or 1/8, never below the size in the square.
    """
    image = decode(
        content,
        max_megapixels=settings.max_megapixels,
        minimum_size=lambda width, height: _minimum_size(width, height, settings),
    )
    return to_square(image.pixels_HWC, settings)


def to_square(pixels_HWC: NDArray[np.uint8], settings: PreprocessSettings) -> NDArray[np.uint8]:
    """uint8 RGB of image_size_px × image_size_px, resampled bilinearly with antialiasing; the same bytes everywhere."""
    size = settings.image_size_px
    tall, wide = pixels_HWC.shape[:2]
    if (tall, wide) == (size, size):
        return pixels_HWC
    if settings.resize == "crop":
        side = min(tall, wide)
        return _resampled(pixels_HWC, _Box((wide - side) / 2, (tall - side) / 2, side, side), size, size)
    if settings.resize == "stretch":
        return _resampled(pixels_HWC, _Box(0, 0, wide, tall), size, size)
    return _padded(pixels_HWC, size)


def _minimum_size(width: int, height: int, settings: PreprocessSettings) -> tuple[int, int]:
    """The image's size within the square: an image that is decoded smaller would have to be enlarged."""
    size = settings.image_size_px
    if settings.resize != "pad":
        return size, size
    longer = max(width, height)
    return max(1, math.ceil(size * width / longer)), max(1, math.ceil(size * height / longer))


def _padded(pixels_HWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    tall, wide = pixels_HWC.shape[:2]
    height, width = (max(1, round(side * size / max(tall, wide))) for side in (tall, wide))
    square = np.zeros((size, size, 3), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = _resampled(pixels_HWC, _Box(0, 0, wide, tall), width, height)
    return square


class _Box(NamedTuple):
    """A region of an image; its corner may lie between two pixels."""

    left: float
    top: float
    wide: int
    tall: int


def _resampled(pixels_HWC: NDArray[np.uint8], box: _Box, width: int, height: int) -> NDArray[np.uint8]:
    """Both algorithms use integer arithmetic, so that every processor gets the same bytes."""
    if box.wide < 2 * width and box.tall < 2 * height:
        return _resampled_slightly(pixels_HWC, box, width, height)
    edges = box.left, box.top, box.left + box.wide, box.top + box.tall
    return np.asarray(Image.fromarray(pixels_HWC).resize((width, height), Image.Resampling.BILINEAR, box=edges))


def _resampled_slightly(pixels_HWC: NDArray[np.uint8], box: _Box, width: int, height: int) -> NDArray[np.uint8]:
    """Smoothed, then interpolated: nearly Pillow's triangle filter in half the time, for factors below 2.

    The triangle's half-width is the factor r by which a side shrinks, and its variance r² / 6 in pixels. Interpolation
    has 1 / 6; taps of (a, 1 - 2a, a) before it contribute the rest.
    """
    cut_HWC, between_x, between_y = _cut(pixels_HWC, box)
    taps_x, sigma_x = _smoothing(box.wide / width, between_x)
    taps_y, sigma_y = _smoothing(box.tall / height, between_y)
    if (taps_x, taps_y) != (1, 1):
        cut_HWC = cv2.GaussianBlur(cut_HWC, (taps_x, taps_y), sigmaX=sigma_x, sigmaY=sigma_y)
    return np.asarray(cv2.resize(cut_HWC, (width, height), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def _cut(pixels_HWC: NDArray[np.uint8], box: _Box) -> tuple[Any, bool, bool]:
    """The box's pixels, and whether they are means of two neighbours (across, down): its corner lies between those."""
    left, top = math.floor(box.left), math.floor(box.top)
    right, down = left < box.left, top < box.top
    first = pixels_HWC[top : top + box.tall, left : left + box.wide]
    if not (right or down):
        return first, False, False
    second = pixels_HWC[top + down : top + down + box.tall, left + right : left + right + box.wide]
    # OpenCV 5.0's blur of two taps would make every pixel a grey level lighter.
    return cv2.addWeighted(first, 0.5, second, 0.5, 0), right, down


def _smoothing(factor: float, between: bool) -> tuple[int, float]:
    """Number of taps, and the deviation of the Gaussian whose neighbouring weights have the ratio a / (1 - 2a)."""
    # The mean of two pixels has a variance of 1 / 4 already.
    tap = (factor**2 - 1) / 12 - between / 8
    if tap < _LEAST_TAP:
        return 1, 1.0
    return 3, math.sqrt(-0.5 / math.log(tap / (1 - 2 * tap)))
