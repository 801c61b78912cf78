"""Images a second: packed splits against torchvision's ImageFolder with a DataLoader, interleaved in one run.

    python benchmarks/loading.py [FOLDER] [--side 128 224] [--images 1200] [--rounds 5]

FOLDER holds a folder a class of JPEGs; without it photographs-like JPEGs are drawn. Three comparisons:

first pass   decode, resize and pack (the whole `augment` stage's work; the previews of the policies cost the same
             whatever the number of images and are timed by themselves) against one epoch of ImageFolder with Resize,
             CenterCrop and PILToTensor
later epochs a shuffled epoch from the packed split against the same epoch of ImageFolder
drawn epochs the same with `basic` augmentation on both sides; the draws are the very same function on both

Each on one core with all libraries held to one thread, no workers: the ratio of CPU seconds is the one to trust on a
busy machine. It also says how far the reduced JPEG decode is from the full one, and what a draw costs beside
albumentations' own transforms.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import albumentations
import cv2
import numpy as np
import torch
from photographs import photographs
from side_by_side import Timing, compare, machine, table
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from components.data.augmentation.augmenter import AugmentSettings, augmenter
from components.data.images.decoding import decode
from components.data.images.preprocessing import PreprocessSettings, square_of, to_square
from components.data.packed import packing
from components.data.packed.loaders import open_split, training_loader
from components.data.packed.packing import SplitImage, pack
from components.shared.progress import silent
from components.task.single_label import SingleLabel

BATCH = 64
_SHOWN = packing._PREVIEW_IMAGES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--side", type=int, nargs="+", default=[128])
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        source = photographs(flags.folder, Path(scratch), flags.images)
        chosen = linked(source, Path(scratch) / "chosen", flags.images)
        images = as_raw(chosen, Path(scratch) / "raw")
        print(f"{len(images)} images, {np.mean([image.size_bytes for image in images]) / 1e3:.1f} kB each")
        for side in flags.side:
            Comparison(Path(scratch), chosen, images, side, flags.rounds).run()
    print(machine("torch", "torchvision", "opencv-python-headless", "pillow", "albumentations"))


def linked(source: Path, folder: Path, count: int) -> Path:
    """A folder a class of `count` files spread evenly over the source's."""
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
    for place in np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)):
        target = folder / files[place].parent.name / f"{place:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(files[place].resolve())
    return folder


def as_raw(folder: Path, raw: Path) -> list[SplitImage]:
    """What ingesting leaves: the bytes in one shard. All images stand in the training split."""
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

    def run(self) -> None:
        print(f"\n{self._preprocess.image_size_px} px")
        self._say_distance()
        self._compare("first pass", lambda: self._pack(previews=1), self._folder)
        self._compare("later epochs", lambda: self._epoch(self._plain), self._folder)
        self._compare("drawn epochs", lambda: self._epoch(self._basic), self._drawn)
        previews = compare(
            {"one image": lambda: self._pack(previews=1), "as in use": lambda: self._pack(previews=_SHOWN)}, rounds=3
        )
        print(f"the previews: {_cpu_of(previews, 'as in use') - _cpu_of(previews, 'one image'):.2f} CPU s per packing")
        self._say_draws()

    def _compare(self, name: str, ours: Callable[[], None], peer: ImageFolder) -> None:
        timings = compare({"ImageFolder": lambda: self._peer(peer), "packed": ours}, rounds=self._rounds)
        print(
            f"\n{name}\n{table(timings, per_round=len(self._images), unit='images/s', peer='ImageFolder')}", flush=True
        )

    def _pack(self, *, previews: int) -> None:
        packing._PREVIEW_IMAGES = previews
        pack(
            self._images,
            labels=SingleLabel.of([image.labels for image in self._images]),
            raw=self._scratch / "raw",
            folder=self._scratch / "augmented",
            split_digest="",
            preprocess=self._preprocess,
            augment=self._plain,
            progress=silent,
        )

    def _epoch(self, augment: AugmentSettings) -> None:
        split = open_split(self._scratch / "augmented", "train")
        for _ in training_loader(split, batch_size=BATCH, seed=0, augment=augment, workers=0):
            pass

    def _peer(self, folder: ImageFolder) -> None:
        for _ in DataLoader(folder, batch_size=BATCH, shuffle=True):
            pass

    def _say_draws(self) -> None:
        """`basic` beside the same transforms of albumentations in its own Compose, on images of this size."""
        split = open_split(self._scratch / "augmented", "train")
        squares = [np.array(split.pixels_NHWC[row]) for row in range(min(64, len(split)))]
        draw = augmenter(self._basic)
        theirs = albumentations.Compose(
            [
                albumentations.Affine(translate_percent=(-0.08, 0.08), scale=(0.9, 1.1), rotate=(-10, 10), p=0.9),
                albumentations.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
            ]
        )
        timings = compare(
            {
                "albumentations": lambda: [theirs(image=square)["image"] for square in squares],
                "draws": lambda: [draw(square, str(place), 0) for place, square in enumerate(squares)],
            },
            rounds=4 * self._rounds,
        )
        print(f"\na draw\n{table(timings, per_round=len(squares), unit='draws/s', peer='albumentations')}", flush=True)

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


def _cpu_of(timings: dict[str, Timing], side: str) -> float:
    return median(timings[side].cpu_s)


if __name__ == "__main__":
    main()
