"""The temperature that makes probabilities honest."""

import numpy as np
import pytest

from components.evaluation.calibration import fit_temperature, reliability
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel

SINGLE = SingleLabel(classes=list("abcd"))


def drawn(scale: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels that follow the probabilities of the logits exactly, and the logits times `scale`."""
    random = np.random.default_rng(3)
    logits_NK = random.normal(size=(count, 4)) * 1.5
    probability_NK = SINGLE.probabilities(logits_NK)
    target_N = (probability_NK.cumsum(axis=1) < random.random((count, 1))).sum(axis=1).clip(0, 3)
    return logits_NK * scale, target_N


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_is_how_overconfident_the_logits_are(scale: float) -> None:
    logits_NK, target_N = drawn(scale)
    assert fit_temperature(logits_NK, target_N, SINGLE) == pytest.approx(scale, rel=0.04)


def test_labels_of_sets_share_one_temperature() -> None:
    random = np.random.default_rng(4)
    logits_NK = random.normal(size=(8000, 4))
    target_NK = random.random((8000, 4)) < 1 / (1 + np.exp(-logits_NK))
    task = MultiLabel(classes=list("abcd"))
    assert fit_temperature(2 * logits_NK, target_NK, task) == pytest.approx(2.0, rel=0.05)


def test_a_model_that_is_always_right_stays_short_of_certain() -> None:
    target_N = np.arange(100) % 4
    logits_NK = 4.0 * np.eye(4)[target_N]
    temperature = fit_temperature(logits_NK, target_N, SINGLE)
    assert SINGLE.probabilities(logits_NK, temperature=temperature).max() == pytest.approx(1 - 0.75 / 101, abs=1e-3)


def test_bins_count_every_image_once_by_its_confidence() -> None:
    bins = reliability(np.array([0.02, 0.99, 1.0, 0.5], np.float32), np.array([False, True, False, True]))
    assert [one.images for one in bins if one.images] == [1, 1, 2]
    assert (bins[-1].accuracy, bins[-1].confidence) == (0.5, pytest.approx(0.995))
