"""What one full decode of an image tells: its size, its light, its sharpness, its hashes."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data.decoding import IMAGE_ENDINGS, UndecodableImage, decode
from components.data.hashing import grey_square, perceptual_hashes

_MEASURED_SIDE_PX = 256


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
    """Variance of the Laplacian of the luma in [0, 255], shrunk to 256 px (Pech-Pacheco et al. 2000)."""
    entropy_bits: float
    """Of the luma histogram, in [0, 8]."""
    colourfulness: float
    """Hasler and Süsstrunk 2003; 0 is grey, above 80 is vivid."""
    hash: int
    """64-bit perceptual hash."""
    mirror_hash: int
    """The hash of the mirror image."""
    thumbnail: bytes
    """32 × 32 grey values, row by row."""


def probe(content: bytes, path: str, *, max_megapixels: float) -> Measurement:
    """Measures one image file; raises UndecodableImage with the reason where it can't be trusted."""
    image = decode(content, max_megapixels=max_megapixels)
    _refuse_wrong_ending(path, image.format)
    return _measure(image.pixels_HWC, mode=image.mode, format_=image.format)


def _refuse_wrong_ending(path: str, format_: str) -> None:
    ending = PurePosixPath(path).suffix
    expected = IMAGE_ENDINGS.get(ending.lower())
    if expected != format_:
        raise UndecodableImage(
            f"the ending {ending or '(none)'} says {expected or 'no image'}, the content is {format_}"
        )


def _measure(pixels_HWC: NDArray[np.uint8], *, mode: str, format_: str) -> Measurement:
    height, width = pixels_HWC.shape[:2]
    small = _shrunk(pixels_HWC)
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(luma)
    thumbnail = grey_square(pixels_HWC)
    hash_, mirror_hash = perceptual_hashes(thumbnail[None])[0]
    return Measurement(
        width_px=width,
        height_px=height,
        mode=mode,
        format=format_,
        aspect=width / height,
        brightness=float(mean[0, 0]) / 255,
        contrast=float(deviation[0, 0]) / 255,
        sharpness=float(cv2.Laplacian(luma, cv2.CV_32F).var()),
        entropy_bits=_entropy_bits(luma),
        colourfulness=_colourfulness(small),
        hash=int(hash_),
        mirror_hash=int(mirror_hash),
        thumbnail=thumbnail.tobytes(),
    )


def _shrunk(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    longest = max(pixels_HWC.shape[:2])
    if longest <= _MEASURED_SIDE_PX:
        return pixels_HWC
    scale = _MEASURED_SIDE_PX / longest
    small: NDArray[np.uint8] = cv2.resize(pixels_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return small


def _entropy_bits(luma_HW: NDArray[np.uint8]) -> float:
    share = np.bincount(luma_HW.ravel(), minlength=256) / luma_HW.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def _colourfulness(pixels_HWC: NDArray[np.uint8]) -> float:
    red, green, blue = (pixels_HWC[..., channel].astype(np.float32) for channel in range(3))
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    strength = np.hypot(red_green.mean(), yellow_blue.mean())
    return float(spread + 0.3 * strength)
