"""Which file would be served: int8 where it keeps what it must keep and gains something, else fp32."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.export.parity import agreement
from components.export.settings import QuantizeSettings

_NOISE = 0.15
"""Share of a median latency by which it varies between runs on a shared machine."""


@dataclass(frozen=True)
class Choice:
    int8: str
    """The best int8 variant."""
    served: str
    """int8 or fp32."""
    reasons: list[str]


def choose(fp32: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]], settings: QuantizeSettings) -> Choice:
    """Judged on the validation part: the test part is for the gate alone."""
    fits = {name: one for name, one in variants.items() if not _broken(fp32, one, settings)}
    pool = fits or variants
    best = _quickest(_most_accurate(pool))
    broken = _broken(fp32, variants[best], settings)
    if broken:
        return Choice(best, "fp32", [f"fp32 would be served: int8 {reason}" for reason in broken])
    return Choice(best, "int8", [f"int8 would be served ({best}): it keeps accuracy and labels on validation"])


def _most_accurate(pool: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    top = max(one["validation_accuracy"] for one in pool.values())
    return {name: one for name, one in pool.items() if one["validation_accuracy"] == top}


def _quickest(pool: Mapping[str, Mapping[str, Any]]) -> str:
    """The first variant, unless another is faster by more than the timer's noise."""
    first, *others = pool
    best = first
    for name in others:
        if pool[name]["latency"]["p50_ms"] < (1 - _NOISE) * pool[best]["latency"]["p50_ms"]:
            best = name
    return best


def _broken(fp32: Mapping[str, Any], int8: Mapping[str, Any], settings: QuantizeSettings) -> list[str]:
    loss = fp32["validation_accuracy"] - int8["validation_accuracy"]
    same = agreement(int8["validation_answers"], fp32["validation_answers"])
    broken = []
    # Sums of many 1/N differ in the last bits.
    if loss > settings.max_accuracy_loss + 1e-9:
        broken.append(f"loses {loss:.4f} accuracy, at most {settings.max_accuracy_loss:g} is allowed")
    if same < settings.min_agreement:
        broken.append(f"agrees on {same:.4f} of the labels, at least {settings.min_agreement:g} is asked for")
    return broken
