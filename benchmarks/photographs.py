"""Pictures for benchmarks: the user's folder of photographs, or drawn ones that cost a decoder as much."""

import random
from pathlib import Path

import numpy as np
from PIL import Image

ENDINGS = (".jpg", ".jpeg", ".png")
DRAWN = 600


def photographs(folder: Path | None, scratch: Path, count: int = DRAWN) -> Path:
    """The folder, a class a folder; without one, JPEGs of 400 × 533, of smooth colours and noise, in two classes."""
    return folder or _drawn(scratch / "drawn", count)


def files_in(folder: Path) -> list[Path]:
    """In an order that mixes the classes."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    return random.Random(2027).sample(files, len(files))


def _drawn(folder: Path, count: int) -> Path:
    random_ = np.random.default_rng(0)
    rows, columns = np.mgrid[0:533, 0:400]
    for number in range(count):
        place = folder / f"class {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        waves = [np.sin(rows / random_.uniform(9, 90) + columns / random_.uniform(9, 90)) for _ in range(3)]
        # The classes differ in their light, so that there is something to learn.
        pixels = np.stack(waves, axis=-1) * 90 + 110 + 30 * (number % 2) + random_.normal(0, 6, (533, 400, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:05d}.jpg", quality=85)
    return folder
