"""Learning-rate schedules, from their ends and turning points."""

from itertools import pairwise

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from components.shared.errors import SettingsError
from components.training.schedules import Schedule, cycle_ends, new_plateau, new_scheduler

PEAK = 2.0


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)


def rates(schedule: Schedule, *, steps: int, warmup: int = 0, cycles: int = 2) -> list[float]:
    """The rate before each step and after the last one, over its peak."""
    sgd = optimizer()
    return followed(sgd, new_scheduler(sgd, schedule, steps=steps, warmup=warmup, cycles=cycles), steps)


def followed(sgd: torch.optim.SGD, scheduler: LRScheduler, steps: int) -> list[float]:
    found = [sgd.param_groups[0]["lr"] / PEAK]
    for _ in range(steps):
        sgd.step()
        scheduler.step()
        found.append(sgd.param_groups[0]["lr"] / PEAK)
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("schedule", ["cosine", "step", "plateau", "one_cycle", "cyclic", "constant"])
@pytest.mark.parametrize("warmup", [0, 12])
def test_every_schedule_stays_between_nothing_and_its_peak_and_reaches_both_halves(
    schedule: Schedule, warmup: int
) -> None:
    found = rates(schedule, steps=120, warmup=warmup, cycles=3)
    assert all(-1e-9 <= rate <= 1 + 1e-9 for rate in found)
    assert max(found) > 0.99
    assert found[0] < 0.1 if warmup or schedule == "one_cycle" else found[0] == 1


@pytest.mark.parametrize("schedule", ["cosine", "step", "plateau", "one_cycle", "constant"])
def test_a_single_step_learns(schedule: Schedule) -> None:
    assert rates(schedule, steps=1)[0] > 0


def test_a_warmup_climbs_in_equal_steps() -> None:
    assert rates("constant", steps=6, warmup=3) == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1])
    assert rates("cosine", steps=10, warmup=2)[0] == pytest.approx(1 / 3)


def test_a_cosine_climbs_then_falls_to_nothing() -> None:
    rate = rates("cosine", steps=100, warmup=10)
    assert rate[:11] == sorted(rate[:11])
    assert rate[0] == pytest.approx(1 / 11)
    assert rate[10] == max(rate) == 1
    assert rate[10:] == sorted(rate[10:], reverse=True)
    assert rate[55] == pytest.approx(0.5)
    assert rate[100] == pytest.approx(0)


def test_a_cosine_without_warmup_begins_at_its_peak() -> None:
    assert rates("cosine", steps=10)[0] == 1
    assert rates("cosine", steps=2, warmup=1)[0] == 0.5


def test_steps_fall_to_a_tenth_after_each_third() -> None:
    found = rates("step", steps=90)
    assert [found[step] for step in (0, 29, 30, 59, 60, 90)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates("step", steps=90, warmup=45)[40] == pytest.approx(0.1 * 41 / 46)


def test_one_cycle_climbs_for_three_tenths_then_falls_far_below_its_start() -> None:
    found = rates("one_cycle", steps=100)
    assert found[0] == pytest.approx(1 / 25)
    assert found[29] == pytest.approx(1, abs=1e-2)
    assert found[100] < 1e-5
    assert all(a < b for a, b in pairwise(found[:30]))
    assert all(a > b for a, b in pairwise(found[30:]))


def test_cycles_fall_to_nothing_and_start_again_at_the_peak() -> None:
    found = rates("cyclic", steps=90, cycles=3)
    assert found[29] < 0.01
    assert found[30] == found[60] == 1


@pytest.mark.parametrize(("steps", "cycles"), [(8, 5), (10, 4), (7, 7), (90, 3), (1001, 10)])
def test_there_are_as_many_cycles_as_asked_for_and_the_training_ends_low(steps: int, cycles: int) -> None:
    ends = cycle_ends(steps, cycles)
    lengths = [end - start for start, end in pairwise([0, *ends])]
    assert (len(ends), ends[-1]) == (cycles, steps)
    assert max(lengths) - min(lengths) <= 1
    found = rates("cyclic", steps=steps, cycles=cycles)
    assert [step for step in range(steps) if found[step] == 1] == [0, *ends[:-1]]
    assert found[steps] == pytest.approx(0)


def test_more_cycles_than_steps_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"train\.cycles: is 5, but the whole training has 4 steps; give fewer"):
        cycle_ends(4, 5)


def test_a_plateau_lowers_the_rate_each_time_that_nothing_gets_better() -> None:
    sgd = optimizer()
    plateau = new_plateau(sgd, 2)
    found = []
    for loss in (1.0, 0.9, 0.95, 0.91, 0.8, 0.8, 0.8):
        plateau.step(loss)
        found.append(sgd.param_groups[0]["lr"] / PEAK)
    assert found == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("schedule", ["cosine", "step", "plateau", "one_cycle", "cyclic", "constant"])
@pytest.mark.parametrize("at", [1, 5, 10, 11, 20])
def test_a_stored_schedule_resumes(schedule: Schedule, at: int) -> None:
    def new() -> tuple[torch.optim.SGD, LRScheduler]:
        sgd = optimizer()
        return sgd, new_scheduler(sgd, schedule, steps=30, warmup=4, cycles=3)

    sgd, scheduler = new()
    followed(sgd, scheduler, at)
    again_sgd, again = new()
    again_sgd.load_state_dict(sgd.state_dict())
    again.load_state_dict(scheduler.state_dict())
    assert followed(again_sgd, again, 30 - at) == followed(sgd, scheduler, 30 - at)
