"""The common corruptions at five strengths, for scores on images of worse quality than the test set's.

Strengths are those of Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", for images of 224 px. The blur alone has a length: theirs for 32 and for 224 px, and between for others.

Letters: N images, H height, W width, C channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

NUM_STRENGTHS = 5
_SMALL_PX, _LARGE_PX = 32, 224
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_SMALL_BLUR_PX, _LARGE_BLUR_PX = (0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_JPEG_QUALITY = (25, 18, 15, 10, 7)
_PIXELS_KEPT = (0.6, 0.5, 0.4, 0.3, 0.25)


@dataclass(frozen=True)
class Corruption:
    name: str
    apply: Callable[[Image, int, np.random.Generator], Image]
    """Of an image, at a strength counted from 0."""


def corrupted(images_NHWC: NDArray[np.uint8], corruption: str, strength: int, *, seed: int) -> NDArray[np.uint8]:
    """The images at a strength from 1 to 5; the same for the same seed, whatever else is asked."""
    if not 1 <= strength <= NUM_STRENGTHS:
        raise ValueError(f"strength {strength} should be from 1 to {NUM_STRENGTHS}")
    apply = CORRUPTIONS[corruption].apply
    return np.stack(
        [
            apply(image_HWC, strength - 1, np.random.default_rng([seed, strength, number]))
            for number, image_HWC in enumerate(images_NHWC)
        ]
    )


def _noise(image_HWC: Image, at: int, random: np.random.Generator) -> Image:
    noise_HWC = random.standard_normal(image_HWC.shape, np.float32) * np.float32(255 * _NOISE[at])
    return _as_bytes(image_HWC + noise_HWC)


def _blur(image_HWC: Image, at: int, _: np.random.Generator) -> Image:
    side = max(image_HWC.shape[:2])
    # Beyond the two sizes the width stays the same fraction of the side.
    scale = max(1.0, side / _LARGE_PX) * min(1.0, side / _SMALL_PX)
    sigma_px = scale * np.interp(side, (_SMALL_PX, _LARGE_PX), (_SMALL_BLUR_PX[at], _LARGE_BLUR_PX[at]))
    blurred: Image = cv2.GaussianBlur(image_HWC, (0, 0), sigma_px)
    return blurred


def _brightness(image_HWC: Image, at: int, _: np.random.Generator) -> Image:
    """The value of the hue-saturation-value cone rises, hue and saturation stay."""
    value_HW1 = image_HWC.max(axis=2, keepdims=True).astype(np.float32)
    raised_HW1 = np.minimum(value_HW1 + 255 * _BRIGHTER[at], 255)
    scaled_HWC = image_HWC * (raised_HW1 / np.maximum(value_HW1, 1))
    return _as_bytes(np.where(value_HW1 > 0, scaled_HWC, raised_HW1))


def _contrast(image_HWC: Image, at: int, _: np.random.Generator) -> Image:
    mean_C = image_HWC.mean(axis=(0, 1), dtype=np.float32)
    return _as_bytes((image_HWC - mean_C) * np.float32(_CONTRAST[at]) + mean_C)


def _jpeg(image_HWC: Image, at: int, _: np.random.Generator) -> Image:
    encoded = cv2.imencode(".jpg", image_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY[at]])
    decoded: Image = np.asarray(cv2.imdecode(encoded[1], cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return decoded


def _pixelation(image_HWC: Image, at: int, _: np.random.Generator) -> Image:
    height, width = image_HWC.shape[:2]
    fewer = (max(1, round(width * _PIXELS_KEPT[at])), max(1, round(height * _PIXELS_KEPT[at])))
    small = cv2.resize(image_HWC, fewer, interpolation=cv2.INTER_AREA)
    coarse: Image = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return coarse


def _as_bytes(values_HWC: NDArray[np.float32]) -> Image:
    rounded: Image = np.clip(np.rint(values_HWC), 0, 255).astype(np.uint8)
    return rounded


_ALL: Sequence[Corruption] = (
    Corruption("noise", _noise),
    Corruption("blur", _blur),
    Corruption("brightness", _brightness),
    Corruption("contrast", _contrast),
    Corruption("jpeg", _jpeg),
    Corruption("pixelation", _pixelation),
)
CORRUPTIONS = {one.name: one for one in _ALL}
