"""From an image file to the square that the model sees: one settings object for training and serving alike."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from components.data.decoding import decode_reduced
from components.settings import Settings


class PreprocessSettings(Settings):
    """params.yaml: preprocess."""

    image_size_px: int = Field(ge=8, le=1024)
    """Side of the square, in pixels; larger sees more and costs its square."""
    resize: Literal["crop", "pad", "stretch"]
    """crop: shorter side, then the centre; pad: longer side, then black bars; stretch: ignore the aspect."""
    max_megapixels: float = Field(gt=0, le=178)
    """A larger image is refused before it is decoded; from 179 on Pillow itself takes it for a bomb."""


def square_of(content: bytes, settings: PreprocessSettings) -> NDArray[np.uint8]:
    """The bytes of an image file as the square that the model sees: the one way, in packing and in serving.

    A large JPEG is decoded at 1/2, 1/4 or 1/8, never below the size that is resampled. Raises UndecodableImage.
    """
    pixels_HWC = decode_reduced(
        content,
        max_megapixels=settings.max_megapixels,
        needed=lambda width, height: _needed(width, height, settings),
    )
    return to_square(pixels_HWC, settings)


def to_square(pixels_HWC: NDArray[np.uint8], settings: PreprocessSettings) -> NDArray[np.uint8]:
    """uint8 RGB of image_size_px × image_size_px, resampled bilinearly with antialiasing."""
    return _square(Image.fromarray(pixels_HWC), settings)


def _square(image: Image.Image, settings: PreprocessSettings) -> NDArray[np.uint8]:
    size = settings.image_size_px
    if image.size == (size, size):
        return np.asarray(image)
    if settings.resize == "crop":
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=_centre_box(image.width, image.height))
    elif settings.resize == "stretch":
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    else:
        image = _padded(image, size)
    return np.asarray(image)


def _needed(width: int, height: int, settings: PreprocessSettings) -> tuple[int, int]:
    """The size of the file's picture in the square, so that reduced decoding never has to be enlarged again."""
    size = settings.image_size_px
    if settings.resize != "pad":
        return size, size
    longer = max(width, height)
    return max(1, math.ceil(size * width / longer)), max(1, math.ceil(size * height / longer))


def _centre_box(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _padded(image: Image.Image, size: int) -> Image.Image:
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new("RGB", (size, size))
    small = image.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(small, ((size - width) // 2, (size - height) // 2))
    return square
