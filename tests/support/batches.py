"""Packed shapes, and the batches of some epochs of them."""

from pathlib import Path
from typing import Any

import torch
from shapes import AUGMENT, PREPROCESS, raw_version, space_of

from components.data.augmentation.augmenter import AugmentSettings
from components.data.packed.loaders import Batch, PackedSplit, training_loader
from components.data.packed.packing import pack
from components.shared.progress import silent


def packed_shapes(folder: Path, store: str) -> Path:
    images = raw_version(folder / "raw", {"circle": 24, "square": 15})
    pack(
        images,
        labels=space_of(images),
        raw=folder / "raw",
        folder=folder / "augmented",
        split_digest="digest",
        preprocess=PREPROCESS,
        augment=augment("basic", copies=1, store=store),
        progress=silent,
    )
    return folder / "augmented"


def augment(policy: str, **changed: Any) -> AugmentSettings:
    return AugmentSettings.from_section("augment", AUGMENT | {"policy": policy} | changed)


def epochs_of(split: PackedSplit, workers: int, *, policy: str, first: int = 0, last: int = 2) -> list[list[Batch]]:
    loader = training_loader(split, batch_size=8, seed=3, augment=augment(policy), workers=workers)
    batches = []
    for epoch in range(first, last + 1):
        loader.sampler.begin_at(epoch, 0)  # type: ignore[attr-defined]
        batches.append([Batch(*(values.clone() for values in batch)) for batch in loader])
    return batches


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(*values) for both in pairs for values in zip(*both, strict=True))
