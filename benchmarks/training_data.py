"""Packed data and jobs for the benchmarks of training; what `darkroom prepare` does, without the checks on the way."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.data.augmentation.augmenter import AugmentSettings
from components.data.images.preprocessing import PreprocessSettings
from components.data.packed import packing
from components.data.packed.packing import SplitImage, pack
from components.shared.progress import silent
from components.task.single_label import SingleLabel
from components.training.settings import TrainingJob
from flows.project.params import read_params

REPOSITORY = Path(__file__).resolve().parents[1]
# The previews of example images are no part of what is measured.
packing._PREVIEW_IMAGES = 1

File = tuple[str, str, bytes]
"""Split, class and the bytes of an image file."""


def drawn_project(folder: Path, *, images: int, side_px: int, num_classes: int) -> Path:
    """Packed noise of some classes: `images` to train on and a batch or so to validate with."""
    random = np.random.default_rng(0)

    def files() -> Iterator[File]:
        for number in range(images + 2 * num_classes):
            label = number % num_classes
            pixels = random.integers(0, 128, (side_px, side_px, 3), dtype=np.uint8) + np.uint8(10 * label)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
            yield "train" if number < images else "val", f"class {label}", stream.getvalue()

    return packed(files(), folder, side_px=side_px, augment=augment_settings("none"))


def folder_files(folders: dict[str, Path], most: dict[str, int]) -> Iterator[File]:
    """The images of a folder a class for each split, evenly chosen where there are more than asked for."""
    for split, folder in folders.items():
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
        for place in np.unique(np.linspace(0, len(files) - 1, min(most[split], len(files))).astype(int)):
            yield split, files[place].parent.name, files[place].read_bytes()


def packed(files: Iterable[File], folder: Path, *, side_px: int, augment: AugmentSettings) -> Path:
    """Writes the images as one shard, as ingesting does, and packs them."""
    raw, images, offset = folder / "raw", [], 0
    raw.mkdir(parents=True, exist_ok=True)
    with (raw / "images-00000.tar").open("wb") as shard:
        for number, (split, label, content) in enumerate(files):
            shard.write(content)
            images.append(
                SplitImage(
                    path=f"{label}/{number}",
                    label=label,
                    labels=[label],
                    weight=None,
                    split=split,
                    sha256=f"{number:064x}",
                    shard="images-00000.tar",
                    offset=offset,
                    size_bytes=len(content),
                )
            )
            offset += len(content)
    pack(
        images,
        labels=SingleLabel.of([image.labels for image in images]),
        raw=raw,
        folder=folder / "augmented",
        split_digest="benchmark",
        preprocess=preprocess_settings(side_px),
        augment=augment,
        progress=silent,
    )
    return folder / "augmented"


def preprocess_settings(side_px: int) -> PreprocessSettings:
    params = read_params(REPOSITORY / "params.yaml")
    return params.preprocess.model_copy(update={"image_size_px": side_px})


def augment_settings(policy: str, **changes: Any) -> AugmentSettings:
    params = read_params(REPOSITORY / "params.yaml")
    return params.augment.model_copy(update={"policy": policy, "copies": 0, "balance": 0.0, **changes})


def new_job(
    data: Path, output: Path, *, side_px: int, architecture: str, augment: AugmentSettings, **train: Any
) -> TrainingJob:
    """The repository's settings with changes."""
    params = read_params(REPOSITORY / "params.yaml")
    return TrainingJob(
        step="train",
        data=str(data),
        output=str(output),
        start_from=None,
        preprocess=preprocess_settings(side_px),
        augment=augment,
        model=params.model.model_copy(update={"architecture": architecture, "weights": None, "freeze_backbone": False}),
        train=params.train.model_copy(update=train),
        finetune=params.finetune,
    )
