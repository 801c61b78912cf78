"""A raw version of drawn shapes, as packing reads it, made in memory."""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image
from projects import draw_shape

from components.data.images.preprocessing import PreprocessSettings
from components.data.packed.packing import SplitImage
from components.task.single_label import SingleLabel
from components.task.task import Task

PREPROCESS = PreprocessSettings(image_size_px=32, resize="crop", max_megapixels=100)
AUGMENT = {
    "policy": "basic",
    "pipeline": [],
    "flips": "none",
    "copies": 0,
    "balance": 0.0,
    "store": "auto",
    "pixels_limit_gib": 8.0,
    "seed": 7,
}
SHARD = "images-00000.tar"


def raw_version(
    folder: Path, counts: dict[str, int], *, splits: tuple[str, ...] = ("train", "train", "val", "test")
) -> list[SplitImage]:
    """Writes one shard of PNGs; the images of each class go to the splits in turn."""
    folder.mkdir(exist_ok=True)
    images, content = [], b""
    for label, count in counts.items():
        for number in range(count):
            file = png(draw_shape(label, number, 40))
            path = f"{label}/{number:03d}.png"
            digest = hashlib.sha256(file).hexdigest()
            split = splits[number % len(splits)]
            images.append(SplitImage(path, label, [label], None, split, digest, SHARD, len(content), len(file)))
            content += file
    (folder / SHARD).write_bytes(content)
    return images


def space_of(images: list[SplitImage]) -> Task:
    return SingleLabel.of([image.labels for image in images])


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def photograph(width: int, height: int) -> bytes:
    """A JPEG of smooth colours and a few edges."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows / height, columns / width, (rows + columns) % 160 / 160], axis=-1) * 255
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=92)
    return stream.getvalue()
