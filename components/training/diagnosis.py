"""A plain word on the curves after training, with the setting to try."""

import math
from collections.abc import Sequence

from components.training.epoch_report import Diagnosis, EpochReport

_POOR = 0.5
"""Of the loss of a guess: losses that stay above it have learnt little. Of mixed images that of training stays high."""
_WORSE = 0.1
"""By this share the last validation loss is above the best one where a model overfits, though training still gains."""
_GAIN = 0.02
"""Of the validation loss an epoch: above it another epoch pays."""
_TELLING = 3
"""Epochs from which on the losses show a course: two can't tell a slow start from an end."""


def diagnose(history: Sequence[EpochReport], *, train_chance: float, val_chance: float, section: str) -> Diagnosis:
    """Rules of thumb on the losses; that of training may be any kind, so it is held against its own figures alone.

    The chances are the losses of a guess, in validation ln K nats among K classes; `section` of params.yaml holds the
    rate and the epochs.
    """
    first, last = history[0], history[-1]
    best = min(history, key=lambda report: report.val_loss)
    if not math.isfinite(last.train_loss) or last.train_loss > 1.5 * max(first.train_loss, train_chance):
        return Diagnosis(
            "diverged",
            f"diverged: the training loss rose from {first.train_loss:.3g} to {last.train_loss:.3g}; "
            f"try a lower {section}.learning_rate",
        )
    if last.val_loss > (1 + _WORSE) * best.val_loss and last.train_loss < best.train_loss:
        return Diagnosis(
            "overfits",
            f"overfits: the validation loss was best after epoch {best.epoch} ({best.val_loss:.3g}) and is "
            f"{last.val_loss:.3g} now; try a stronger augment.policy, more train.weight_decay, train.patience, or more "
            "images",
        )
    if len(history) >= _TELLING and _still_falls(history):
        return Diagnosis(
            "still improving",
            f"still improving: the last epochs lowered the validation loss from {history[-3].val_loss:.3g} to "
            f"{last.val_loss:.3g}; try more {section}.epochs",
        )
    if len(history) < _TELLING:
        return Diagnosis("too early", f"too early to say: {_course(history)}; try more {section}.epochs")
    poor = last.train_loss > _POOR * train_chance and last.val_loss > _POOR * val_chance
    if poor and last.val_accuracy < 0.9:
        return Diagnosis(
            "underfits",
            f"underfits: the training loss stays at {last.train_loss:.3g} where a guess has {train_chance:.3g}; try a "
            f"larger model.architecture, another {section}.learning_rate, or a milder augment.policy",
        )
    return Diagnosis("fine", f"fine: the validation loss settled at {last.val_loss:.3g}, close to its best")


def _still_falls(history: Sequence[EpochReport]) -> bool:
    a, b, c = (report.val_loss for report in history[-_TELLING:])
    return c < b < a and (a - c) / 2 > _GAIN * a


def _course(history: Sequence[EpochReport]) -> str:
    first, last = history[0], history[-1]
    if len(history) == 1:
        return f"after one epoch the validation loss is {last.val_loss:.3g}"
    moved = "still falls, from" if last.val_loss < first.val_loss else "went from"
    return f"in {len(history)} epochs the validation loss {moved} {first.val_loss:.3g} to {last.val_loss:.3g}"
