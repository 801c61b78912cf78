"""Shapes of the learning rate: its share of the peak at each optimizer step.

Each is a plain object under torch's LambdaLR, which keeps what it holds in the checkpoint for a resumed run.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Literal

from components.shared.errors import SettingsError

Schedule = Literal["cosine", "step", "plateau", "one_cycle", "cyclic", "constant"]
Shape = Callable[[int], float]

_DROP = 0.1
_ONE_CYCLE_CLIMB, _ONE_CYCLE_START, _ONE_CYCLE_END = 0.3, 1 / 25, 1e-5


def new_shape(schedule: Schedule, *, steps: int, warmup: int, cycles: int, patience: int) -> Shape:
    """`steps` in all, the first `warmup` of them a straight climb (but for one_cycle, which climbs by itself)."""
    match schedule:
        case "cosine":
            return WarmupCosine(steps, warmup)
        case "step":
            return WarmupSteps(steps, warmup)
        case "plateau":
            return WarmupPlateau(warmup, patience)
        case "one_cycle":
            return OneCycle(steps)
        case "cyclic":
            return Cyclic(steps, warmup, cycles)
        case "constant":
            return WarmupConstant(warmup)


class WarmupConstant:
    """A straight climb, then the peak."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup

    def __call__(self, step: int) -> float:
        return (step + 1) / (self.warmup + 1) if step < self.warmup else 1.0


class WarmupCosine(WarmupConstant):
    """A straight climb, then half a cosine to zero (Loshchilov and Hutter 2017)."""

    def __init__(self, steps: int, warmup: int) -> None:
        super().__init__(warmup)
        self.steps = steps

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return super().__call__(step)
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return _half_cosine(1.0, 0.0, done)


class WarmupSteps(WarmupConstant):
    """A straight climb, then a tenth after each third of the steps (He et al. 2016)."""

    def __init__(self, steps: int, warmup: int) -> None:
        super().__init__(warmup)
        self.steps = steps

    def __call__(self, step: int) -> float:
        thirds = min(2, 3 * step // max(1, self.steps))
        return float(super().__call__(step) * _DROP**thirds)


class WarmupPlateau(WarmupConstant):
    """A tenth each time when validation has not got better for `patience` epochs, as torch's ReduceLROnPlateau does.

    Lightning would step torch's own after the epoch's checkpoint is written, and so lose it on a resume.
    """

    def __init__(self, warmup: int, patience: int) -> None:
        super().__init__(warmup)
        self.patience, self.best, self.waited, self.drops = patience, math.inf, 0, 0

    def note(self, loss: float) -> None:
        """The validation loss after an epoch."""
        if loss < self.best:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited >= self.patience:
            self.drops, self.waited = self.drops + 1, 0

    def __call__(self, step: int) -> float:
        return float(super().__call__(step) * _DROP**self.drops)


class OneCycle:
    """A cosine up to the peak for three tenths of the steps, then one down far below its start (Smith and Topin 2018).

    With torch's OneCycleLR's figures; the momentum stays.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: int) -> float:
        climb = _ONE_CYCLE_CLIMB * max(1, self.steps)
        if step < climb:
            return _half_cosine(_ONE_CYCLE_START, 1.0, step / climb)
        return _half_cosine(1.0, _ONE_CYCLE_END, (step - climb) / max(1.0, self.steps - climb))


class Cyclic(WarmupConstant):
    """Cosines to zero, begun again at the peak: a snapshot stands at the end of each (Huang et al. 2017)."""

    def __init__(self, steps: int, warmup: int, cycles: int) -> None:
        super().__init__(warmup)
        self.ends = cycle_ends(steps, cycles)

    def __call__(self, step: int) -> float:
        cycle = min(bisect_right(self.ends, step), len(self.ends) - 1)
        start, end = (0, *self.ends)[cycle], self.ends[cycle]
        return min(super().__call__(step), _half_cosine(1.0, 0.0, (step - start) / (end - start)))


def cycle_ends(steps: int, cycles: int) -> list[int]:
    """After which steps each of the cycles ends, the last one with the training.

    Raises SettingsError where there are fewer steps than cycles.
    """
    if steps < cycles:
        raise SettingsError(
            f"params.yaml: train.cycles: is {cycles}, but the whole training has {steps} steps; give fewer cycles, or "
            "more epochs"
        )
    return [round(number * steps / cycles) for number in range(1, cycles + 1)]


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
