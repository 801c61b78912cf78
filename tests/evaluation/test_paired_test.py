"""Whether one model is worse than another on the same images, or merely unlucky."""

from math import comb

import numpy as np
import pytest

from components.evaluation.paired_test import compare_paired, resampled_interval


def right(challenger: str, champion: str) -> tuple[np.ndarray, np.ndarray]:
    """A letter an image: 1 where the model is right."""
    return np.array([*challenger], str) == "1", np.array([*champion], str) == "1"


def test_images_are_counted_where_one_of_the_two_is_right() -> None:
    found = compare_paired(*right("110010", "101000"))
    assert (found.images, found.only_challenger_correct, found.only_champion_correct) == (6, 2, 1)
    assert found.accuracy_difference == pytest.approx(1 / 6)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("won", "lost"), [(0, 4), (0, 5), (3, 9), (3, 12), (10, 10), (0, 1), (40, 62), (1000, 1001)])
def test_a_loss_is_significant_where_the_exact_test_says_so(won: int, lost: int, confidence: float) -> None:
    found = compare_paired(*right("1" * won + "0" * lost + "1" * 20, "0" * won + "1" * lost + "1" * 20))
    tosses = won + lost
    # A fair coin over the images that only one of the two gets right.
    p_worse = sum(comb(tosses, heads) for heads in range(lost, tosses + 1)) / 2**tosses
    low, high = found.interval(confidence)
    assert (high < 0) is (p_worse <= 1 - confidence)
    assert (low + high) / 2 == pytest.approx((won - lost) / (tosses + 20))


def test_a_significant_loss_is_about_that_of_a_normal_distribution_with_many_images() -> None:
    won, lost = 100, 500
    found = compare_paired(*right("1" * won + "0" * lost + "1" * 400, "0" * won + "1" * lost + "1" * 400))
    assert found.interval(0.95)[1] == pytest.approx(-0.4 + 1.645 * 600**0.5 / 1000, abs=2e-3)


def test_models_that_never_differ_have_an_interval_of_zero() -> None:
    assert compare_paired(*right("1100", "1100")).interval(0.95) == (0, 0)
    assert compare_paired(*right("", "")).interval(0.95) == (0, 0)


def test_a_resampled_interval_lies_around_the_difference_and_leaves_out_resamples_without_a_score() -> None:
    difference_D = np.append(np.linspace(0, 1, 101), np.nan)
    assert resampled_interval(0.2, difference_D, confidence=0.9) == pytest.approx((-0.2, 0.6))
    assert np.isnan(resampled_interval(0.2, np.full(3, np.nan), confidence=0.9)).all()
