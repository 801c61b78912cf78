"""Hashes stay near under changes that keep the picture, and far between pictures."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from components.data.images.perceptual_hash import CROPS, distance, grey_square, perceptual_hashes


def scene(seed: int, side: int = 128) -> NDArray[np.uint8]:
    """A picture with structure at all scales, shape [side, side, 3]."""
    random = np.random.default_rng(seed)
    layers = [gaussian_filter(random.normal(size=(side, side)), blur) * blur for blur in (2, 5, 12)]
    grey = np.sum(layers, axis=0)
    grey = (grey - grey.min()) / np.ptp(grey) * 200 + 20
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def test_the_mirror_hash_is_the_hash_of_the_mirror_image() -> None:
    picture = grey_square(scene(1))
    there, back = perceptual_hashes(np.stack([picture, picture[:, ::-1]]))
    assert distance(there[1], back[0]) <= 1
    assert distance(there[0], back[0]) > 7


@pytest.mark.parametrize("crop", CROPS[2::5])
def test_the_hash_of_a_crop_comes_from_the_grey_square_of_the_full_image(crop: tuple[tuple[float, float], ...]) -> None:
    picture = scene(2)
    rows, columns = (slice(round(first * 128), round(last * 128)) for first, last in crop)
    cropped = perceptual_hashes(grey_square(picture[rows, columns])[None])[0, 0]
    assert distance(perceptual_hashes(grey_square(picture)[None], crop)[0, 0], cropped) <= 6


def test_different_pictures_are_far_apart() -> None:
    hashes = perceptual_hashes(np.stack([grey_square(scene(seed)) for seed in range(20)]))[:, 0]
    apart = distance(hashes[:, None], hashes[None])[~np.eye(20, dtype=bool)]
    assert apart.min() > 7
