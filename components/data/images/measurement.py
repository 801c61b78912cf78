"""Measurements of one image: size, brightness, contrast, sharpness, colours, perceptual hashes.

Every bit of a file is decoded. A JPEG is decoded at the reduced size at which it is measured, which takes two thirds of
the time of its full size and finds the same damage.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data.images.decoding import DecodedImage, decode
from components.data.images.perceptual_hash import SIDE, colour_grid, grey_square, halved, perceptual_hashes

_MEASURED_SIDE_PX = 256
_SAMPLED_SIDE_PX = 64
_COUNTS_LOG = np.arange(_MEASURED_SIDE_PX**2 + 1) * np.log2(np.maximum(1, np.arange(_MEASURED_SIDE_PX**2 + 1)))
_OPPONENTS = np.array([[1, -1, 0], [1, 1, -2], [0, 0, 0]], np.float32)
"""Red minus green, and twice yellow minus blue; the third row because OpenCV is twice as fast with a square matrix."""


@dataclass(frozen=True)
class Measurement:
    width_px: int
    height_px: int
    mode: str
    """Pillow's mode of the stored image, such as L, RGB or CMYK."""
    format: str
    aspect: float
    """Width over height."""
    brightness: float
    """Mean luma in [0, 1]."""
    contrast: float
    """Standard deviation of the luma, in [0, 0.5]."""
    sharpness: float
    """Variance of the Laplacian of the luma in [0, 255], at most 256 px a side (Pech-Pacheco et al. 2000)."""
    entropy_bits: float
    """Entropy of the luma histogram, in [0, 8]."""
    colourfulness: float
    """Hasler and Süsstrunk 2003; 0 is grey, above 80 is vivid."""
    hash: int
    """64-bit perceptual hash."""
    mirror_hash: int
    """64-bit perceptual hash of the mirrored image."""
    thumbnail: bytes
    """32 × 32 grey values, row by row."""
    colours: bytes
    """8 × 8 mean colours, row by row, as RGB."""


def measure(content: bytes, *, max_megapixels: float) -> Measurement:
    """The measurements of one image file; raises UndecodableImage with the reason where it is damaged."""
    return with_hashes([measure_without_hashes(content, max_megapixels=max_megapixels)])[0]


def measure_without_hashes(content: bytes, *, max_megapixels: float) -> Measurement:
    """The measurements with hashes of 0: `with_hashes` computes those of many images at once, which is faster."""
    return _measurement(decode(content, max_megapixels=max_megapixels, minimum_size=_measured_size))


def with_hashes(found: list[Measurement]) -> list[Measurement]:
    """The measurements with the hashes of their thumbnails."""
    if not found:
        return []
    grey_NSS = np.stack([np.frombuffer(one.thumbnail, np.uint8).reshape(SIDE, SIDE) for one in found])
    pairs = perceptual_hashes(grey_NSS)
    return [
        Measurement(**{**vars(one), "hash": hash_, "mirror_hash": mirror_hash})
        for one, (hash_, mirror_hash) in zip(found, pairs.tolist(), strict=True)
    ]


def _measured_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which the luma is measured."""
    while max(width, height) > _MEASURED_SIDE_PX:
        width, height = width // 2, height // 2
    return max(1, width), max(1, height)


def _measurement(image: DecodedImage) -> Measurement:
    width, height = image.size_px
    luma = luma_of(image.pixels_HWC)
    sample = _sampled(image.pixels_HWC)
    mean, deviation = cv2.meanStdDev(luma)
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    return Measurement(
        width_px=width,
        height_px=height,
        mode=image.mode,
        format=image.format,
        aspect=width / height,
        brightness=mean.item() / 255,
        contrast=deviation.item() / 255,
        sharpness=cv2.norm(edges, cv2.NORM_L2SQR) / edges.size - cv2.mean(edges)[0] ** 2,
        entropy_bits=_entropy_bits(luma),
        colourfulness=_colourfulness(sample),
        hash=0,
        mirror_hash=0,
        thumbnail=grey_square(luma).tobytes(),
        colours=colour_grid(sample).tobytes(),
    )


def luma_of(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image in grey, at most 256 px a side; hashes and all measurements but the colours are computed from it."""
    luma_HW: NDArray[np.uint8] = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2GRAY)
    # Halving is several times as fast as shrinking once by another factor.
    while max(luma_HW.shape) > _MEASURED_SIDE_PX:
        luma_HW = halved(luma_HW)
    return luma_HW


def _sampled(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most 4,096 single pixels on a regular grid: means and deviations of colours need no more."""
    height, width = pixels_HWC.shape[:2]
    size = (min(width, _SAMPLED_SIDE_PX), min(height, _SAMPLED_SIDE_PX))
    if size == (width, height):
        return pixels_HWC
    sample: NDArray[np.uint8] = cv2.resize(pixels_HWC, size, interpolation=cv2.INTER_NEAREST)
    return sample


def _entropy_bits(luma_HW: NDArray[np.uint8]) -> float:
    counts = cv2.calcHist([luma_HW], [0], None, [256], [0, 256]).ravel().astype(np.intp)
    total = luma_HW.size
    return max(0.0, math.log2(total) - float(np.add.reduce(_COUNTS_LOG.take(counts))) / total)


def _colourfulness(pixels_HWC: NDArray[np.uint8]) -> float:
    mean, deviation = cv2.meanStdDev(cv2.transform(pixels_HWC.astype(np.float32), _OPPONENTS))
    (red_green,), (twice_yellow_blue,), _ = mean.tolist()
    (red_green_deviation,), (twice_yellow_blue_deviation,), _ = deviation.tolist()
    spread = math.hypot(red_green_deviation, twice_yellow_blue_deviation / 2)
    return spread + 0.3 * math.hypot(red_green, twice_yellow_blue / 2)
