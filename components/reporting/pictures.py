"""Pictures for the report: files of a run, and images from the raw data, such as the model's worst errors.

Letters: N images, K classes.
"""

import contextlib
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from components.data.images.decoding import decode
from components.data.raw.dataset import RawImages
from components.evaluation.predictions import Predictions
from components.reporting.inline_pictures import Picture, embedded
from components.shared.errors import DataError

_SIDE_PX = 192
_SMALL_PX = 64
"""Images up to this side are embedded without loss and shown with visible pixels."""


@dataclass(frozen=True)
class ImageLocation:
    """Location of an image's bytes in the raw data."""

    shard: str
    offset: int
    size_bytes: int


def picture_of_file(file: Path, *, alt: str, caption: str) -> Picture:
    return Picture(embedded(file.read_bytes(), "png"), alt, caption)


def error_pictures(
    predictions: Predictions, locations: Mapping[str, ImageLocation], raw: Path, *, most: int, max_megapixels: float
) -> list[Picture]:
    """The most confident errors, the worst first; `locations` by SHA-256.

    Empty where the local raw data no longer holds exactly the images that were scored.
    """
    pictures = []
    try:
        with RawImages(raw) as store:
            for number in _worst(predictions, most):
                sha256 = predictions.sha256_N[number]
                content = _content(store, locations[sha256], sha256)
                pictures.append(_picture(predictions, number, content, max_megapixels))
    except (OSError, KeyError, DataError):
        return []
    return pictures


def pictures_by_path(
    images: Mapping[str, tuple[str, ImageLocation]], raw: Path, *, max_megapixels: float
) -> dict[str, Picture]:
    """Pictures of the images that the local raw data still holds; each image has its SHA-256 and location."""
    pictures = {}
    with contextlib.suppress(OSError, DataError), RawImages(raw) as store:
        for path, (sha256, location) in images.items():
            with contextlib.suppress(OSError, KeyError, DataError):
                image = _decoded(_content(store, location, sha256), max_megapixels)
                small = max(image.size) <= _SMALL_PX
                pictures[path] = Picture(_encoded(image, small=small), alt=path, caption=path, small=small)
    return pictures


def _content(store: RawImages, location: ImageLocation, sha256: str) -> bytes:
    """The image's bytes; DataError where the raw data holds other bytes at this location by now."""
    content = store.read(location.shard, location.offset, location.size_bytes)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{location.shard} no longer holds the image {sha256}")
    return content


def _worst(predictions: Predictions, most: int) -> list[int]:
    wrong = np.flatnonzero(~predictions.correct_N)
    confidence = predictions.confidence_N
    return [int(number) for number in wrong[np.argsort(-confidence[wrong], kind="stable")][:most]]


def _picture(predictions: Predictions, number: int, content: bytes, max_megapixels: float) -> Picture:
    image = _decoded(content, max_megapixels)
    row = slice(number, number + 1)
    (true,), (predicted,) = (predictions.task.names(of[row]) for of in (predictions.target, predictions.predicted))
    confidence = predictions.confidence_N[number]
    small = max(image.size) <= _SMALL_PX
    return Picture(
        source=_encoded(image, small=small),
        alt=f"test image of class {true}, predicted as {predicted}: {predictions.path_N[number]}",
        caption=f"{true}, predicted as {predicted} with {confidence:.1%} confidence",
        small=small,
    )


def _decoded(content: bytes, max_megapixels: float) -> Image.Image:
    return Image.fromarray(decode(content, max_megapixels=max_megapixels).pixels_HWC)


def _encoded(image: Image.Image, *, small: bool) -> str:
    stream = io.BytesIO()
    if small:
        image.save(stream, "PNG")
        return embedded(stream.getvalue(), "png")
    image.thumbnail((_SIDE_PX, _SIDE_PX))
    image.save(stream, "JPEG", quality=85)
    return embedded(stream.getvalue(), "jpeg")
