"""One sentence about the loss curves after training, with the setting to try."""

import math
from collections.abc import Sequence

from components.training.epoch_report import Diagnosis, EpochReport

_POOR = 0.5
"""Fraction of the chance-level loss above which a model has learned little. On mixed images the training loss stays
high."""
_WORSE = 0.1
"""Fraction by which the last validation loss exceeds the best one where a model overfits."""
_GAIN = 0.02
"""Fraction of the validation loss; an epoch that lowers it by more is worth another one."""
_TREND_EPOCHS = 3
"""Epochs needed to see a trend: two don't separate a slow start from an end."""


def diagnose(history: Sequence[EpochReport], *, train_chance: float, val_chance: float, section: str) -> Diagnosis:
    """A verdict by rules of thumb on the losses; the training loss, of whatever type, is compared with itself alone.

    `train_chance` and `val_chance` are losses at chance level, in validation ln K nats for K classes; `section` of
    params.yaml holds the learning rate and the epochs.
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
    if len(history) >= _TREND_EPOCHS and _still_falls(history):
        return Diagnosis(
            "still improving",
            f"still improving: the last epochs lowered the validation loss from {history[-3].val_loss:.3g} to "
            f"{last.val_loss:.3g}; try more {section}.epochs",
        )
    if len(history) < _TREND_EPOCHS:
        return Diagnosis("too early", f"too early to say: {_trend(history)}; try more {section}.epochs")
    poor = last.train_loss > _POOR * train_chance and last.val_loss > _POOR * val_chance
    if poor and last.val_accuracy < 0.9:
        return Diagnosis(
            "underfits",
            f"underfits: the training loss stays at {last.train_loss:.3g} (chance level: {train_chance:.3g}); try a "
            f"larger model.architecture, another {section}.learning_rate, or a milder augment.policy",
        )
    return Diagnosis("fine", f"fine: the validation loss ends at {last.val_loss:.3g}, close to its best")


def _still_falls(history: Sequence[EpochReport]) -> bool:
    a, b, c = (report.val_loss for report in history[-_TREND_EPOCHS:])
    return c < b < a and (a - c) / 2 > _GAIN * a


def _trend(history: Sequence[EpochReport]) -> str:
    first, last = history[0], history[-1]
    if len(history) == 1:
        return f"after one epoch the validation loss is {last.val_loss:.3g}"
    change = "still falls, from" if last.val_loss < first.val_loss else "went from"
    return f"in {len(history)} epochs the validation loss {change} {first.val_loss:.3g} to {last.val_loss:.3g}"
