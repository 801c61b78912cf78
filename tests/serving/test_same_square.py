"""A file of any type becomes the same square in training and in serving."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from components.data.augmentation.augmenter import AugmentSettings
from components.data.images.preprocessing import to_square
from components.data.packed.loaders import open_split
from components.data.packed.packing import SplitImage, pack
from components.serving.onnx_classifier import OnnxClassifier
from components.shared.progress import silent
from components.task.single_label import SingleLabel

SHARD = "images-00000.tar"
ROTATED_TAG = 0x0112
Pixels = NDArray[np.uint8]


def picture() -> Pixels:
    """Four flat colours, so that turns and mirror images show and a JPEG changes little."""
    pixels = np.zeros((40, 24, 3), np.uint8)
    pixels[:20, :12], pixels[:20, 12:] = (200, 40, 40), (40, 180, 40)
    pixels[20:, :12], pixels[20:, 12:] = (40, 40, 200), (220, 220, 90)
    return pixels


def stored(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def turned() -> tuple[bytes, Pixels]:
    """Lies on its side, and says so."""
    exif = Image.Exif()
    exif[ROTATED_TAG] = 6
    sideways = Image.fromarray(np.rot90(picture()))
    return stored(sideways, "JPEG", quality=95, subsampling=0, exif=exif), picture()


def cmyk() -> tuple[bytes, Pixels]:
    return stored(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=95, subsampling=0), picture()


def deep() -> tuple[bytes, Pixels]:
    grey = picture()[..., 0]
    return stored(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), np.repeat(grey[..., None], 3, axis=2)


def see_through() -> tuple[bytes, Pixels]:
    alpha = np.full((40, 24, 1), 255, np.uint8)
    alpha[20:] = 0
    expected = picture()
    expected[20:] = 255
    return stored(Image.fromarray(np.concatenate([picture(), alpha], axis=2)), "PNG"), expected


ODD = {"turned.jpg": turned, "cmyk.jpg": cmyk, "16 bits.png": deep, "alpha.png": see_through}


def trained_on(folder: Path, files: dict[str, bytes], model: OnnxClassifier) -> dict[str, Pixels]:
    """The packed squares by path."""
    images, content = [], b""
    for number, (path, file) in enumerate(files.items()):
        label, digest = "ab"[number % 2], hashlib.sha256(file).hexdigest()
        images.append(SplitImage(path, label, [label], None, "train", digest, SHARD, len(content), len(file)))
        content += file
    (folder / SHARD).write_bytes(content)
    settings = {"policy": "none", "pipeline": [], "flips": "none", "copies": 0, "balance": 0.0, "store": "pixels"}
    pack(
        images,
        labels=SingleLabel.of([image.labels for image in images]),
        raw=folder,
        folder=folder / "packed",
        split_digest="digest",
        preprocess=model.card.preprocess,
        augment=AugmentSettings.from_section("augment", settings | {"pixels_limit_gib": 1.0, "seed": 7}),
        progress=silent,
    )
    split = open_split(folder / "packed", "train")
    return {path: np.asarray(split.pixels_NHWC[row]) for row, path in enumerate(split.path_N)}


@pytest.fixture(scope="module")
def squares(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Pixels, Pixels, Pixels]]:
    """By path: trained on, served, and as the picture should look."""
    model = OnnxClassifier(onnx_file)
    made = {path: make() for path, make in ODD.items()}
    trained = trained_on(tmp_path_factory.mktemp("odd"), {path: content for path, (content, _) in made.items()}, model)
    return {
        path: (trained[path], model.square(content), to_square(expected, model.card.preprocess))
        for path, (content, expected) in made.items()
    }


@pytest.mark.parametrize("path", ODD)
def test_the_square_that_is_served_is_the_one_that_was_trained_on(
    squares: dict[str, tuple[Pixels, Pixels, Pixels]], path: str
) -> None:
    trained, served, expected = squares[path]
    assert np.array_equal(trained, served)
    assert np.abs(served.astype(int) - expected.astype(int)).max() <= 12
