"""Images that stay on the device: the same order as any loader, draws by seed, epoch and image."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.data.augmentation.augmenter import AugmentSettings
from components.data.packed.loaders import PackedSplit, ShuffledBatches, open_split, training_loader
from components.shared.errors import SettingsError
from components.training.fit import fit
from components.training.gpu_cache import GpuCachedBatches
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def augment() -> AugmentSettings:
    return AugmentSettings(
        policy="basic", pipeline=[], flips="horizontal", copies=0, balance=0, store="pixels", pixels_limit_gib=1, seed=3
    )


def batches(packed: Path, augment: AugmentSettings | None, epoch: int = 0, first: int = 0) -> list[torch.Tensor]:
    split = open_split(packed, "train")
    order = ShuffledBatches(len(split), 16, 5)
    loader = GpuCachedBatches(split, order, lambda: (epoch, first), device=CPU, augment=augment)
    return [batch.images_BHWC for batch in loader]


def test_without_draws_the_batches_are_those_of_the_ordinary_loader(packed: Path) -> None:
    loader = training_loader(open_split(packed, "train"), batch_size=16, seed=5, augment=None, workers=0)
    for one, other in zip(batches(packed, None), loader, strict=True):
        assert torch.equal(one, other.images_BHWC)


def test_an_epoch_begun_in_its_middle_draws_as_if_it_had_been_begun_at_its_start(
    packed: Path, augment: AugmentSettings
) -> None:
    whole, rest = batches(packed, augment, epoch=1), batches(packed, augment, epoch=1, first=2)
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], rest, strict=True))
    assert not torch.equal(whole[0], batches(packed, augment, epoch=0)[0])


def gradient(packed: Path, count: int = 400) -> PackedSplit:
    """Images with the column's number in the red channel and the row's in the others; the last one is a copy."""
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    image = np.stack([columns, rows, rows], axis=-1).astype(np.uint8)
    return replace(
        open_split(packed, "train"),
        pixels_NHWC=np.broadcast_to(image, (count, *image.shape)),
        target=np.zeros(count, np.int64),
        weight_N=np.ones(count, np.float32),
        path_N=[f"{number}.png" for number in range(count)],
        copy_N=np.arange(count) // (count - 1),
    )


def augmented_images(split: PackedSplit, augment: AugmentSettings, batch_size: int = 400) -> torch.Tensor:
    """Each image of the split as it is in the first epoch, in the split's order."""
    order = ShuffledBatches(len(split), batch_size, 5)
    loader = GpuCachedBatches(split, order, lambda: (0, 0), device=CPU, augment=augment)
    images = torch.cat([batch.images_BHWC for batch in loader])
    places = np.concatenate([places for _, places in ShuffledBatches(len(split), batch_size, 5)])
    return images[np.argsort(places)]


def test_images_are_shifted_by_an_eighth_at_most_and_half_of_them_flipped(
    packed: Path, augment: AugmentSettings
) -> None:
    drawn = augmented_images(gradient(packed), augment).int()
    flipped = drawn[:, 16, 10, 0] > drawn[:, 16, 20, 0]
    assert 0.4 < flipped.float().mean() < 0.6
    upright = drawn[~flipped][:, 16, 16]
    assert (upright - 16).abs().max() == 4
    assert len(upright.unique(dim=0)) > 40


def test_draws_belong_to_the_image_whatever_its_batch_and_copies_have_none(
    packed: Path, augment: AugmentSettings
) -> None:
    # Seeds may be of any size.
    seeded = augment.model_copy(update={"seed": 2**63})
    split = gradient(packed, 64)
    drawn = augmented_images(split, seeded, 64)
    assert torch.equal(drawn, augmented_images(split, seeded, 8))
    assert not torch.equal(drawn, augmented_images(split, augment, 64))
    assert torch.equal(drawn[-1], torch.tensor(split.pixels_NHWC[63]))
    assert not torch.equal(drawn[0], drawn[-1])


def test_an_image_more_changes_no_draw_of_the_others(packed: Path, augment: AugmentSettings) -> None:
    split = replace(gradient(packed, 64), copy_N=np.zeros(64, np.int64))
    grown = replace(gradient(packed, 65), path_N=["new.png", *split.path_N], copy_N=np.zeros(65, np.int64))
    assert torch.equal(augmented_images(grown, augment)[1:], augmented_images(split, augment))


@pytest.mark.parametrize(
    ("policy", "train", "model"),
    [("none", {"augment": True}, {}), ("basic", {"augment": False}, {"freeze_backbone": True})],
    ids=["no policy", "cached features"],
)
def test_without_augmentation_cached_images_stay_as_they_are(
    make_job: MakeJob, tmp_path: Path, policy: str, train: dict[str, Any], model: dict[str, Any]
) -> None:
    settings = {"augment": {"policy": policy}, "model": model}
    one, other = (
        fit(
            make_job(tmp_path / cache_on_gpu, train=train | {"epochs": 1, "cache_on_gpu": cache_on_gpu}, **settings),
            on_epoch=lambda _: None,
        )
        for cache_on_gpu in ("on", "off")
    )
    assert one.history[0].train_loss == other.history[0].train_loss


def test_a_policy_that_the_device_does_not_draw_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, augment={"policy": "medical"}, train={"cache_on_gpu": "on"})
    with pytest.raises(
        SettingsError, match=r"cache_on_gpu: is on, which .*policy is medical; set that to basic or none"
    ):
        fit(job, on_epoch=lambda _: None)
