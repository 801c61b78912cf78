"""A score with its 95% interval, as the report shows it: a number, a range and a small drawing of both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    value: float | None
    """NaN where the score is not defined; None where it is unknown."""
    low: float | None = None
    """Lower end of the 95% interval; None where there is no interval."""
    high: float | None = None

    @property
    def interval(self) -> str:
        """`0.901 to 0.943`; empty where there is no interval."""
        return "" if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"

    @property
    def drawable(self) -> bool:
        """Whether the score and its interval fit on a scale from 0 to 1."""
        values = (self.value, self.low, self.high)
        return all(value is not None and 0 <= value <= 1 for value in values)


def estimate(value: float | None, interval: Sequence[float] | None) -> Estimate:
    """The value with its interval; without it where an end is not defined."""
    if value is None or interval is None or any(map(math.isnan, interval)):
        return Estimate(value)
    low, high = interval
    return Estimate(value, low, high)


def named_estimate(name: str, values: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> Estimate:
    """The score of this name; its value is None where there is none."""
    return estimate(values.get(name), intervals.get(name))
