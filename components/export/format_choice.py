"""Which file would be served: of those that keep what they must keep the quickest; of equals the smallest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from components.export.parity import agreement
from components.export.settings import QuantizeSettings, after_epochs

Format = Literal["fp32", "fp16", "int8"]
_NOISE = 0.15
"""Fraction of a median latency by which it varies between runs on a shared machine."""


@dataclass(frozen=True)
class Measurements:
    """One file on the validation split and on this machine."""

    recipe: str
    """fp32, fp16, or how the int8 file was made."""
    qat_epochs: int = field(default=0, kw_only=True)
    """Of quantization-aware fine-tuning before it."""
    size_bytes: int
    accuracy: float
    answers: NDArray[Any]
    p50_ms: float

    @property
    def description(self) -> str:
        return self.recipe + after_epochs(self.qat_epochs)


@dataclass(frozen=True)
class Choice:
    served: Format
    reasons: list[str]


def best_int8(fp32: Measurements, int8: Sequence[Measurements], settings: QuantizeSettings) -> Measurements:
    """The quickest that keeps what it must keep; where none does, the most accurate, to be shown."""
    kept = [one for one in int8 if not broken(fp32, one, settings)]
    return most_promising(kept) if kept else max(int8, key=lambda one: one.accuracy)


def most_promising(int8: Sequence[Measurements]) -> Measurements:
    """Of the quickest the most accurate."""
    quickest = min(one.p50_ms for one in int8)
    return max((one for one in int8 if _as_quick(one.p50_ms, quickest)), key=lambda one: one.accuracy)


def choose(formats: Mapping[Format, Measurements], settings: QuantizeSettings) -> Choice:
    """Chooses by the validation split: the test split is for the gate alone."""
    fp32 = formats["fp32"]
    refused = {name: broken(fp32, one, settings) for name, one in formats.items()}
    kept = {name: one for name, one in formats.items() if not refused[name]}
    against = {
        name: [f"{name}{after_epochs(formats[name].qat_epochs)} {reason}" for reason in found]
        for name, found in refused.items()
    }
    if settings.serve != "auto":
        served = settings.serve if settings.serve in kept else "fp32"
        name = served + after_epochs(formats[served].qat_epochs)
        reasons = against.get(settings.serve, [f"{settings.serve} doesn't run on this machine"])
        return Choice(served, [f"{name} would be served: {reason}" for reason in reasons or ["as quantize.serve asks"]])
    reasons = [reason for name, found in against.items() if name != "fp16" for reason in found]
    quickest = min(one.p50_ms for one in kept.values())
    served = min((name for name, one in kept.items() if _as_quick(one.p50_ms, quickest)), key=_bytes_in(kept))
    if served != "int8" and "int8" in kept:
        reasons.append(f"int8 takes {kept['int8'].p50_ms:.2f} ms an image here, {served} {kept[served].p50_ms:.2f}")
    if served == "int8":
        kept_what = f"{_change(kept['int8'].accuracy - fp32.accuracy)}, {_gain(fp32, kept['int8'])}"
        return Choice(served, [f"int8 would be served ({kept['int8'].description}): {kept_what}"])
    return Choice(served, [f"{served} would be served: {reason}" for reason in reasons])


def broken(fp32: Measurements, other: Measurements, settings: QuantizeSettings) -> list[str]:
    """What a smaller form doesn't keep, a clause each."""
    loss = fp32.accuracy - other.accuracy
    same = agreement(other.answers, fp32.answers)
    found = []
    # Sums of many 1/N differ in the last bits.
    if loss > settings.max_accuracy_drop + 1e-9:
        found.append(f"loses {loss:.4f} accuracy, at most {settings.max_accuracy_drop:g} is allowed")
    if same < settings.min_agreement:
        found.append(f"agrees on {same:.4f} of the labels, at least {settings.min_agreement:g} is asked for")
    return found


def _as_quick(milliseconds: float, quickest: float) -> bool:
    return milliseconds * (1 - _NOISE) <= quickest


def _bytes_in(formats: Mapping[Format, Measurements]) -> Any:
    return lambda name: formats[name].size_bytes


def _change(accuracy: float) -> str:
    """Against fp32, on validation."""
    if abs(accuracy) < 0.00005:
        return "as accurate as fp32"
    return f"{abs(accuracy):.4f} {'more' if accuracy > 0 else 'less'} accurate than fp32"


def _gain(fp32: Measurements, int8: Measurements) -> str:
    return f"{int8.size_bytes / fp32.size_bytes:.2f} of the bytes, {fp32.p50_ms / int8.p50_ms:.2f} times as fast"
