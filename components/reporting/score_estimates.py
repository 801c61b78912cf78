"""A score with its interval, as the page shows it: a number, a range and a small picture of both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.reporting.record_fields import Record, number_of


@dataclass(frozen=True)
class Estimate:
    value: float | None
    """NaN where the score is not defined."""
    low: float | None = None
    """The ends of its 95% interval; None where it has none."""
    high: float | None = None

    @property
    def interval(self) -> str:
        """`0.901 to 0.943`, or nothing where there is none."""
        return "" if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"

    @property
    def drawn(self) -> bool:
        """Whether it can be drawn on a line from 0 to 1."""
        values = (self.value, self.low, self.high)
        return all(value is not None and 0 <= value <= 1 for value in values)


def estimate_of(record: Record, key: str, interval: Any = None) -> Estimate:
    """What the record holds under the key; the interval is that of its `intervals` unless given."""
    edges = (record.get("intervals") or {}).get(key) if interval is None else interval
    value = number_of(record, key)
    if not isinstance(edges, Sequence) or len(edges) != 2 or any(map(_undefined, edges)):
        return Estimate(value)
    return Estimate(value, edges[0], edges[1])


def _undefined(edge: Any) -> bool:
    return not isinstance(edge, int | float) or math.isnan(edge)
