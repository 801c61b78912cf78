"""Images that stay on the device: the same order as any loader, draws by seed, epoch and batch."""

from pathlib import Path

import pytest
import torch

from components.data.augmentation import AugmentSettings
from components.data.loading import ShuffledBatches, open_part, training_loader
from components.training.resident import ResidentBatches, draw

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def augment() -> AugmentSettings:
    return AugmentSettings(
        policy="basic", pipeline=[], flips="horizontal", copies=0, balance=0, store="pixels", pixels_limit_gib=1, seed=3
    )


def batches(packed: Path, augment: AugmentSettings | None, epoch: int = 0, first: int = 0) -> list[torch.Tensor]:
    part = open_part(packed, "train")
    order = ShuffledBatches(len(part), 16, 5)
    loader = ResidentBatches(part, order, lambda: (epoch, first), device=CPU, augment=augment)
    return [batch.images_BHWC for batch in loader]


def test_without_draws_the_batches_are_those_of_the_ordinary_loader(packed: Path) -> None:
    loader = training_loader(open_part(packed, "train"), batch_size=16, seed=5, augment=None, workers=0)
    for one, other in zip(batches(packed, None), loader, strict=True):
        assert torch.equal(one, other.images_BHWC)


def test_an_epoch_begun_in_its_middle_draws_as_if_it_had_been_begun_at_its_start(
    packed: Path, augment: AugmentSettings
) -> None:
    whole, rest = batches(packed, augment, epoch=1), batches(packed, augment, epoch=1, first=2)
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], rest, strict=True))
    assert not torch.equal(whole[0], batches(packed, augment, epoch=0)[0])


def test_images_are_shifted_by_an_eighth_at_most_and_half_of_them_flipped(augment: AugmentSettings) -> None:
    # The column's number in the red channel, the row's in the green one.
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    image = torch.stack([columns, rows, rows], dim=-1).to(torch.uint8)
    drawn = draw(image.expand(400, 32, 32, 3), augment, torch.Generator().manual_seed(0)).int()
    flipped = drawn[:, 16, 10, 0] > drawn[:, 16, 20, 0]
    assert 0.4 < flipped.float().mean() < 0.6
    upright = drawn[~flipped][:, 16, 16]
    assert (upright - 16).abs().max() == 4
    assert len(upright.unique(dim=0)) > 40
