"""Shapes of the learning rate, from their ends and turning points."""

from itertools import pairwise

import pytest

from components.shared.errors import SettingsError
from components.training.schedules import (
    Cyclic,
    OneCycle,
    WarmupCosine,
    WarmupPlateau,
    WarmupSteps,
    cycle_ends,
    new_shape,
)


def test_every_schedule_stays_between_nothing_and_its_peak_and_reaches_both_halves() -> None:
    for name in ("cosine", "step", "plateau", "one_cycle", "cyclic", "constant"):
        shape = new_shape(name, steps=120, warmup=12, cycles=3, patience=2)
        shares = [shape(step) for step in range(121)]
        assert all(0 <= share <= 1 for share in shares), name
        assert max(shares) > 0.99, name
        assert shares[0] < 0.1, name


def test_steps_fall_to_a_tenth_after_each_third() -> None:
    shape = WarmupSteps(steps=90, warmup=0)
    assert [shape(step) for step in (0, 29, 30, 59, 60, 90)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_one_cycle_climbs_for_three_tenths_then_falls_far_below_its_start() -> None:
    shape = OneCycle(steps=100)
    assert shape(0) == pytest.approx(1 / 25)
    assert shape(30) == pytest.approx(1)
    assert shape(100) == pytest.approx(1e-5)
    assert all(shape(a) < shape(b) for a, b in pairwise(range(0, 31)))
    assert all(shape(a) > shape(b) for a, b in pairwise(range(30, 101)))


def test_cycles_fall_to_nothing_and_begin_anew_at_the_peak() -> None:
    shape = Cyclic(steps=90, warmup=0, cycles=3)
    assert shape(29) < 0.01
    assert shape(30) == shape(60) == 1


@pytest.mark.parametrize(("steps", "cycles"), [(8, 5), (10, 4), (7, 7), (90, 3), (1001, 10)])
def test_there_are_as_many_cycles_as_asked_for_and_the_training_ends_low(steps: int, cycles: int) -> None:
    ends = cycle_ends(steps, cycles)
    lengths = [end - start for start, end in pairwise([0, *ends])]
    assert (len(ends), ends[-1]) == (cycles, steps)
    assert max(lengths) - min(lengths) <= 1
    shape = Cyclic(steps=steps, warmup=0, cycles=cycles)
    peaks = [step for step in range(steps) if shape(step) == 1]
    assert peaks == [0, *ends[:-1]]
    assert shape(steps) == pytest.approx(0)


def test_more_cycles_than_steps_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"train\.cycles: is 5, but the whole training has 4 steps; give fewer"):
        cycle_ends(4, 5)


def test_a_plateau_lowers_the_rate_each_time_that_nothing_gets_better() -> None:
    shape = WarmupPlateau(warmup=0, patience=2)
    rates = []
    for loss in (1.0, 0.9, 0.95, 0.91, 0.8, 0.8, 0.8):
        shape.note(loss)
        rates.append(shape(0))
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_a_schedule_kept_in_a_checkpoint_goes_on() -> None:
    shape, other = WarmupPlateau(warmup=3, patience=1), WarmupPlateau(warmup=3, patience=1)
    for loss in (1.0, 2.0):
        shape.note(loss)
    other.__dict__.update(shape.__dict__)
    assert other(9) == shape(9) == pytest.approx(0.1)
    assert WarmupCosine(steps=10, warmup=2)(0) == pytest.approx(1 / 3)
