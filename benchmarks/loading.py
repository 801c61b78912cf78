"""Images a second: packed parts against torchvision's ImageFolder with a DataLoader, interleaved in one run.

    python benchmarks/loading.py [FOLDER] [--side 128] [--images 600] [--rounds 5]

FOLDER holds a folder a class of JPEGs; without it photographs-like JPEGs are drawn. Three comparisons:

first pass   decode, resize and pack (the whole `augment` stage's work but for the previews) against one epoch of
             ImageFolder with Resize, CenterCrop and PILToTensor
later epochs a shuffled epoch from the packed part against the same epoch of ImageFolder
drawn epochs the same with `basic` augmentation on both sides; the draws are the very same function on both

Each is timed on all cores (wall: threads for packing, as many DataLoader workers as cores for the peer; later epochs of
the packed part in one process, as `train.loader_workers: 0` has it) and on one core (CPU seconds of the process,
no workers, libraries held to one thread). It also says how far the reduced JPEG decode is from the full one.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from components.data import packing
from components.data.augmentation import AugmentSettings, augmenter
from components.data.decoding import decode
from components.data.loading import open_part, training_loader
from components.data.packing import SplitImage, pack
from components.data.preprocessing import PreprocessSettings, square_of, to_square
from components.progress import silent

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--side", type=int, nargs="+", default=[128])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        source = flags.folder or drawn_photographs(Path(scratch) / "drawn", flags.images)
        chosen = linked(source, Path(scratch) / "chosen", flags.images)
        images = as_raw(chosen, Path(scratch) / "raw")
        print(f"{len(images)} images, {np.mean([image.size_bytes for image in images]) / 1e3:.1f} kB each")
        for side in flags.side:
            Comparison(Path(scratch), chosen, images, side, flags.rounds).run()
    print(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}, load {os.getloadavg()}")


def drawn_photographs(folder: Path, count: int) -> Path:
    """JPEGs of 400 × 533 with smooth colours, edges and noise, in two classes."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:533, 0:400]
    for number in range(count):
        place = folder / f"class {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        waves = [np.sin(rows / random.uniform(9, 90) + columns / random.uniform(9, 90)) for _ in range(3)]
        pixels = np.stack(waves, axis=-1) * 100 + 128 + random.normal(0, 6, (533, 400, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:05d}.jpg", quality=85)
    return folder


def linked(source: Path, folder: Path, count: int) -> Path:
    """A folder a class of `count` files spread evenly over the source's."""
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
    for place in np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)):
        target = folder / files[place].parent.name / f"{place:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(files[place].resolve())
    return folder


def as_raw(folder: Path, raw: Path) -> list[SplitImage]:
    """What ingesting leaves: the bytes in one shard. All images stand in the training part."""
    raw.mkdir()
    images, offset = [], 0
    with (raw / "images-00000.tar").open("wb") as shard:
        for file in sorted(folder.rglob("*.jpg")):
            content = file.read_bytes()
            shard.write(content)
            place = (
                file.parent.name,
                [file.parent.name],
                None,
                "train",
                file.name,
                "images-00000.tar",
                offset,
                len(content),
            )
            images.append(SplitImage(f"{file.parent.name}/{file.name}", *place))
            offset += len(content)
    return images


class Comparison:
    def __init__(self, scratch: Path, chosen: Path, images: list[SplitImage], side: int, rounds: int) -> None:
        self._scratch, self._images, self._rounds = scratch, images, rounds
        self._preprocess = PreprocessSettings(image_size_px=side, resize="crop", max_megapixels=100)
        self._plain, self._basic = settings("none"), settings("basic")
        steps = [v2.Resize(side), v2.CenterCrop(side)]
        self._folder = ImageFolder(str(chosen), v2.Compose([*steps, v2.PILToTensor()]))
        draw = augmenter(self._basic)
        drawn = v2.Lambda(lambda image: torch.from_numpy(draw(np.asarray(image), "any", 0)))
        self._drawn = ImageFolder(str(chosen), v2.Compose([*steps, drawn]))
        self._cores = len(os.sched_getaffinity(0))

    def run(self) -> None:
        print(f"\n{self._preprocess.image_size_px} px")
        self._say_distance()
        self._pack()
        self._compare(
            "first pass, all cores", self._pack, lambda: self._peer(self._folder, self._cores), time.perf_counter
        )
        self._compare(
            "first pass, one core (CPU)", self._pack_alone, lambda: self._peer(self._folder, 0), time.process_time
        )
        for name, folder, augment in (("later", self._folder, self._plain), ("drawn", self._drawn, self._basic)):
            packed, peer = (lambda a=augment: self._epoch(a)), (lambda n, f=folder: self._peer(f, n))
            self._compare(f"{name} epochs, all cores", packed, lambda p=peer: p(self._cores), time.perf_counter)
            self._compare(f"{name} epochs, one core (CPU)", packed, lambda p=peer: p(0), time.process_time)

    def _compare(
        self, name: str, ours: Callable[[], None], peer: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        rates: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(self._rounds):
            for who, work in (("ours", ours), ("peer", peer)):
                started = clock()
                work()
                rates[who].append(len(self._images) / (clock() - started))
        a, b = median(rates["ours"]), median(rates["peer"])
        print(
            f"{name}: packed {a:,.0f}, ImageFolder {b:,.0f} images/s, ratio {a / b:.2f} "
            f"(rounds {min(rates['ours']):,.0f} to {max(rates['ours']):,.0f}, "
            f"{min(rates['peer']):,.0f} to {max(rates['peer']):,.0f})",
            flush=True,
        )

    def _pack(self) -> None:
        pack(
            self._images,
            raw=self._scratch / "raw",
            folder=self._scratch / "augmented",
            split_digest="",
            preprocess=self._preprocess,
            augment=self._plain,
            progress=silent,
        )

    def _pack_alone(self) -> None:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            self._pack()
        finally:
            os.sched_setaffinity(0, cores)

    def _epoch(self, augment: AugmentSettings) -> None:
        part = open_part(self._scratch / "augmented", "train")
        for _ in training_loader(part, batch_size=BATCH, seed=0, augment=augment, workers=0):
            pass

    def _peer(self, folder: ImageFolder, workers: int) -> None:
        for _ in DataLoader(folder, batch_size=BATCH, shuffle=True, num_workers=workers):
            pass

    def _say_distance(self) -> None:
        errors, changed = [], 0
        for image in self._images[:: max(1, len(self._images) // 100)]:
            with (self._scratch / "raw" / image.shard).open("rb") as shard:
                shard.seek(image.offset)
                content = shard.read(image.size_bytes)
            full = to_square(decode(content, max_megapixels=100).pixels_HWC, self._preprocess)
            error = (square_of(content, self._preprocess).astype(float) - full) ** 2
            errors.append(error.mean())
            changed += bool(error.any())
        psnr = 10 * np.log10(255**2 / np.mean(errors)) if any(errors) else float("inf")
        print(f"reduced decode against full: {psnr:.1f} dB, {changed} of {len(errors)} images differ")


def settings(policy: str) -> AugmentSettings:
    plain = {"pipeline": [], "flips": "none", "copies": 0, "balance": 0.0, "store": "pixels", "pixels_limit_gib": 8.0}
    return AugmentSettings.from_section("augment", {"policy": policy, "seed": 0, **plain})


if __name__ == "__main__":
    packing._PREVIEW_IMAGES = 1  # the sheets are no part of what is compared
    main()
