"""What training sees is a function of seed, image and epoch alone, however many processes prepare it."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from components.data.augmentation.augmenter import AugmentSettings
from components.data.packed.loaders import evaluation_loader, open_split, training_loader

Policy = Literal["none", "basic", "advanced", "medical"]


def settings(policy: Policy = "advanced", seed: int = 7) -> AugmentSettings:
    return AugmentSettings(
        policy=policy, pipeline=[], flips="both", copies=0, balance=0, store="pixels", pixels_limit_gib=1, seed=seed
    )


def epochs(
    packed: Path, *, workers: int = 0, count: int = 2, seed: int = 0, policy: Policy = "advanced"
) -> list[Tensor]:
    """All images of each epoch in the order in which they come, with their classes in a last channel."""
    loader = training_loader(
        open_split(packed, "train"), batch_size=16, seed=seed, augment=settings(policy), workers=workers
    )
    seen = []
    for epoch in range(count):
        loader.sampler.begin_at(epoch, 0)  # type: ignore[attr-defined]
        seen.append(torch.cat([images.flatten(1).int() * 10 + target[:, None] for images, target, _ in loader]))
    return seen


@pytest.fixture(scope="module")
def alone(packed: Path) -> list[Tensor]:
    return epochs(packed)


def test_draws_are_the_same_for_any_number_of_workers(packed: Path, alone: list[Tensor]) -> None:
    with_workers = epochs(packed, workers=2)
    assert all(torch.equal(one, other) for one, other in zip(alone, with_workers, strict=True))


def test_each_epoch_has_its_own_order_and_draws(alone: list[Tensor]) -> None:
    rows = [{tuple(row) for row in epoch.tolist()} for epoch in alone]
    assert len(rows[0]) == len(alone[0]), "no image is drawn twice alike"
    assert len(rows[0] & rows[1]) < 0.1 * len(rows[0])


def test_an_epoch_does_not_depend_on_the_ones_before(packed: Path, alone: list[Tensor]) -> None:
    loader = training_loader(open_split(packed, "train"), batch_size=16, seed=0, augment=settings(), workers=0)
    loader.sampler.begin_at(1, 0)  # type: ignore[attr-defined]
    images, target, _ = next(iter(loader))
    assert torch.equal(images.flatten(1).int() * 10 + target[:, None], alone[1][:16])


def test_without_a_policy_every_image_comes_once_as_it_is(packed: Path) -> None:
    split = open_split(packed, "train")
    (seen,) = epochs(packed, count=1, policy="none")
    stored = torch.from_numpy(np.array(split.pixels_NHWC)).flatten(1).int() * 10
    stored += torch.from_numpy(np.array(split.target))[:, None]
    assert sorted(seen.tolist()) == sorted(stored.tolist())
    assert not torch.equal(seen, stored), "shuffled"


def test_evaluation_sees_every_image_in_order_as_it_is(packed: Path) -> None:
    split = open_split(packed, "val")
    images = torch.cat([batch.images_BHWC for batch in evaluation_loader(split, batch_size=7)])
    assert np.array_equal(images.numpy(), split.pixels_NHWC)
