"""Images that grow with the epochs."""

import pytest
import torch

from components.training.progressive_resizing import shrink, side_at


def test_the_side_grows_in_whole_eighths_to_the_full_one_after_two_thirds() -> None:
    sides = [side_at(epoch, epochs=12, full_px=128, start=0.5) for epoch in range(12)]
    assert sides[0] == 64
    assert sides == sorted(sides)
    assert sides[8:] == [128] * 4
    assert all(side % 8 == 0 for side in sides)


def test_without_it_every_epoch_sees_the_full_side() -> None:
    assert {side_at(epoch, epochs=5, full_px=30, start=1.0) for epoch in range(5)} == {30}
    assert side_at(4, epochs=5, full_px=30, start=0.5) == 30


def test_shrunk_images_are_bytes_with_the_same_mean() -> None:
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    small = shrink(images, 16)
    assert small.shape == (3, 16, 16, 3)
    assert small.dtype == torch.uint8
    assert abs(small.float().mean() - images.float().mean()) < 2
    assert shrink(images, 32) is images


def test_mixed_images_are_resized_and_cached_features_are_not() -> None:
    mixed = 255 * torch.rand(3, 32, 32, 3)
    small = shrink(mixed, 16)
    assert small.shape == (3, 16, 16, 3)
    assert small.mean() == pytest.approx(mixed.mean(), abs=2)
    features = torch.rand(3, 32)
    assert shrink(features, 16) is features
