"""Images made worse, the same way each time, and scores on them."""

import numpy as np
import pytest
from projects import draw_shape
from scored_predictions import single_label_predictions

from components.evaluation.corruptions import CORRUPTIONS, corrupted
from components.evaluation.robustness import robustness, sample
from components.shared.progress import silent


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([np.asarray(draw_shape("circle", number, 48)) for number in range(6)])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_strongest_is_further_from_the_image_than_the_weakest_and_all_change_it(
    name: str, images: np.ndarray
) -> None:
    before = images.copy()
    distances = [
        np.abs(corrupted(images, name, strength, seed=7).astype(float) - images).mean() for strength in range(1, 6)
    ]
    assert min(distances) > 0
    assert distances[4] > distances[0]
    assert np.array_equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_whatever_comes_after_it(name: str, images: np.ndarray) -> None:
    one, all_of_them = corrupted(images[:1], name, 3, seed=7), corrupted(images, name, 3, seed=7)
    assert np.array_equal(one[0], all_of_them[0])
    assert one.dtype == np.uint8
    assert one.shape == images[:1].shape


def test_values_of_the_paper() -> None:
    grey = np.full((1, 224, 224, 3), 100, np.uint8)
    assert corrupted(grey, "brightness", 2, seed=0)[0, 0, 0, 0] == 151
    noise = corrupted(np.full((1, 224, 224, 3), 128, np.uint8), "noise", 1, seed=0).astype(float) - 128
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.01)
    half = np.zeros((1, 10, 10, 3), np.uint8)
    half[:, :5] = 200
    assert np.unique(corrupted(half, "contrast", 1, seed=0)).tolist() == [60, 140]


def test_black_and_tiny_images_are_no_trouble() -> None:
    for name in CORRUPTIONS:
        assert corrupted(np.zeros((1, 2, 2, 3), np.uint8), name, 5, seed=0).shape == (1, 2, 2, 3)


def test_scores_fall_with_the_brightness_that_a_model_relies_on() -> None:
    random = np.random.default_rng(0)
    target_N = np.arange(40) % 2
    pixels = (random.integers(0, 90, (40, 8, 8, 3)) + 100 * target_N[:, None, None, None]).astype(np.uint8)

    def answer(images_NHWC: np.ndarray) -> np.ndarray:
        bright_N = images_NHWC.mean(axis=(1, 2, 3)) / 20 - 95 / 20
        return np.stack([-bright_N, bright_N], axis=1).astype(np.float32)

    predictions = single_label_predictions(target_N, answer(pixels))
    found = robustness(answer, predictions, pixels, most=30, top_k=2, num_resamples=20, seed=1, progress=silent)
    assert [one.images for one in found.scores] == [30] * 31
    accuracy = {(one.corruption, one.strength): one.accuracy for one in found.scores}
    assert accuracy["none", 0] == 1
    assert accuracy["contrast", 1] == 1
    assert accuracy["brightness", 5] < 0.7
    again = robustness(answer, predictions, pixels, most=30, top_k=2, num_resamples=20, seed=1, progress=silent)
    assert again == found
    for one in found.scores:
        for name in ("macro_f1", "balanced_accuracy", "log_loss", "expected_calibration_error"):
            low, high = getattr(one, f"{name}_interval")
            assert low <= getattr(one, name) <= high, name
    assert found.scores[0].macro_f1_interval == (1, 1)
    means = {one.corruption: one for one in found.means}
    by_brightness = [accuracy["brightness", strength] for strength in range(1, 6)]
    assert means["brightness"].accuracy == pytest.approx(np.mean(by_brightness))
    worse = [value for (name, _), value in accuracy.items() if name != "none"]
    assert means["corruptions"].accuracy == pytest.approx(np.mean(worse))
    assert means["none"].interval == (1, 1)
    low, high = means["brightness"].interval or (0, 0)
    assert low < means["brightness"].accuracy < high


def test_a_sample_is_drawn_once_and_in_order() -> None:
    assert sample(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    assert sample(100, 10, 0).tolist() == sorted(sample(100, 10, 0).tolist())
    assert len(set(sample(100, 10, 0).tolist())) == 10
