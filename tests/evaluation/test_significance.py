"""Whether one model is worse than another on the same images, or merely unlucky."""

from math import comb

import numpy as np
import pytest

from components.evaluation.significance import compare_paired


def right(challenger: str, champion: str) -> tuple[np.ndarray, np.ndarray]:
    """A letter an image: 1 where the model is right."""
    return np.array([*challenger], str) == "1", np.array([*champion], str) == "1"


def test_images_are_counted_where_one_of_the_two_is_right() -> None:
    found = compare_paired(*right("110010", "101000"))
    assert (found.images, found.only_challenger_right, found.only_champion_right) == (6, 2, 1)
    assert found.accuracy_difference == pytest.approx(1 / 6)


@pytest.mark.parametrize(("won", "lost"), [(0, 5), (5, 0), (3, 9), (9, 3), (10, 10), (0, 1), (40, 62)])
def test_p_is_the_tail_of_a_fair_coin_over_the_discordant_images(won: int, lost: int) -> None:
    found = compare_paired(*right("1" * won + "0" * lost + "1" * 20, "0" * won + "1" * lost + "1" * 20))
    tosses = won + lost
    tail = sum(comb(tosses, heads) for heads in range(lost, tosses + 1)) / 2**tosses
    assert found.p_worse == pytest.approx(tail)


def test_models_that_never_differ_are_not_called_worse() -> None:
    assert compare_paired(*right("1100", "1100")).p_worse == 1
    assert compare_paired(*right("", "")).accuracy_difference == 0


def test_more_lost_images_make_a_worse_model_more_probable() -> None:
    values = [compare_paired(*right("0" * lost + "1" * 5, "1" * lost + "0" * 5)).p_worse for lost in range(1, 20)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01
