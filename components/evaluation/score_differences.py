"""How much the scores of a challenger differ from the champion's on the same images, with confidence intervals.

Letters: N images, D resamples.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.bootstrap import Interval, resamples
from components.evaluation.confusion_counts import count
from components.evaluation.level_predictions import ExclusivePredictions, Floats
from components.evaluation.metrics import resampled_scores, score
from components.evaluation.paired_test import PairedComparison, compare_paired, resampled_interval
from components.evaluation.predictions import Predictions
from components.evaluation.served_predictions import accuracy_and_macro_f1

_RESAMPLES = 1000
_SEED = 7
"""The same resamples each time, so that a repeated decision has the same outcome."""


@dataclass(frozen=True)
class Changes:
    challenger: dict[str, float]
    champion: dict[str, float]
    intervals: dict[str, Interval]
    """Challenger minus champion, of the requested scores that both models have."""
    paired: PairedComparison


def changes_between(
    challenger: Predictions, champion: Predictions, names: Collection[str], *, confidence: float, top_k: int
) -> Changes:
    """Changes of all scores; `names` get intervals, each of whose ends holds with the given confidence."""
    first, second = (score(one, top_k=top_k).headline() for one in (challenger, champion))

    def resampled() -> list[dict[str, Floats]]:
        return [
            resampled_scores(one, top_k=top_k, num_resamples=_RESAMPLES, seed=_SEED) for one in (challenger, champion)
        ]

    paired = compare_paired(challenger.correct_N, champion.correct_N)
    return Changes(first, second, _intervals(first, second, names, paired, resampled, confidence), paired)


def changes_by_name(
    label_N: Sequence[str],
    challenger_N: Sequence[str],
    champion_N: Sequence[str],
    names: Collection[str],
    *,
    confidence: float,
) -> Changes:
    """Compares models of different classes by the names that they predict: accuracy and macro F1 alone."""
    first, second = (
        dict(zip(("accuracy", "macro_f1"), accuracy_and_macro_f1(label_N, pred_N), strict=True))
        for pred_N in (challenger_N, champion_N)
    )

    def resampled() -> list[dict[str, Floats]]:
        return [{"macro_f1": _resampled_macro_f1(label_N, pred_N)} for pred_N in (challenger_N, champion_N)]

    correct = [
        np.array(pred_N, dtype=object) == np.array(label_N, dtype=object) for pred_N in (challenger_N, champion_N)
    ]
    paired = compare_paired(*correct)
    return Changes(first, second, _intervals(first, second, names, paired, resampled, confidence), paired)


def _intervals(
    challenger: dict[str, float],
    champion: dict[str, float],
    names: Collection[str],
    paired: PairedComparison,
    resampled: Callable[[], list[dict[str, Floats]]],
    confidence: float,
) -> dict[str, Interval]:
    """Accuracy's by the exact test; others are resampled, only if requested."""
    found = {"accuracy": paired.interval(confidence)} if "accuracy" in names else {}
    others = [name for name in names if name in challenger.keys() & champion.keys() and name not in found]
    if others:
        own, other = resampled()
        for name in others:
            difference = challenger[name] - champion[name]
            found[name] = resampled_interval(difference, own[name] - other[name], confidence=confidence)
    return found


def _resampled_macro_f1(label_N: Sequence[str], pred_N: Sequence[str]) -> Floats:
    """[D], over the classes that a resample has images of."""
    names = sorted({*label_N, *pred_N})
    index_of = {name: index for index, name in enumerate(names)}
    target_N, predicted_N = (np.array([index_of[name] for name in of]) for of in (label_N, pred_N))
    no_logits_NK = np.empty((len(target_N), 0), np.float32)
    level = ExclusivePredictions("single_label", names, target_N, predicted_N, no_logits_NK, 1.0)
    blocks = resamples(len(label_N), count=_RESAMPLES, seed=_SEED)
    return np.concatenate([count(level, weight_DN).averages()["macro_f1"] for weight_DN in blocks])
