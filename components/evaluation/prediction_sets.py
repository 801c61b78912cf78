"""Prediction sets that hold the truth as often as asked: split conformal prediction (Vovk et al. 2005).

A class stands in the set of an image where its probability is at least that of all but a few validation images of that
class, for what they are. "A few" is such that a new image like the validation images has its truth in its set with the
asked probability (Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels").
That holds whatever the model is, for images drawn as the validation images were.

A class with few validation images would need a threshold so low that it stands in nearly every set. So such classes
share one, as in Ding et al. 2023, "Class-Conditional Conformal Prediction with Many Classes".

Letters: N images, D decisions, C options of a decision, K classes, L classes of a coarser level.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval, fraction_interval
from components.evaluation.predictions import Predictions
from components.task.task import Task

COVERAGE, ANSWERED, ANSWERED_ACCURACY = "coverage", "answered", "answered_accuracy"
_OUTSIDE = 5
"""An option has its own threshold where so many of its validation images may lie below it."""
_LAST_BITS = 1e-9
"""20 × 0.95 may be a little more than 19."""


def rank_above(images: int, fraction: float) -> int:
    """How many of so many values are to stay below a bound that a further one stays below with this probability.

    More than there are, where they are too few to say.
    """
    return math.ceil((images + 1) * fraction - _LAST_BITS)


def least_images(fraction: float) -> int:
    """So many images allow for a bound."""
    return math.ceil(fraction / (1 - fraction) - _LAST_BITS)


def fit_set_thresholds(
    probability_NK: NDArray[np.float32], target: NDArray[Any], task: Task, *, coverage: float
) -> list[list[float]]:
    """For each decision the threshold of each option; all 0 where the images are too few for this coverage."""
    option_NDC, chosen_ND = task.decisions(probability_NK), task.decided(target)
    return [option_thresholds(option_NDC[:, d], chosen_ND[:, d], coverage=coverage) for d in range(chosen_ND.shape[1])]


def option_thresholds(
    probability_NC: NDArray[np.float32], chosen_N: NDArray[np.int64], *, coverage: float
) -> list[float]:
    """Of one decision."""
    count_C = np.bincount(chosen_N, minlength=probability_NC.shape[1])
    truth_N = np.take_along_axis(probability_NC, chosen_N[:, None], axis=1)[:, 0]
    threshold_C = np.zeros(len(count_C), np.float64)
    for options in _groups(count_C, math.ceil(_OUTSIDE / (1 - coverage) - 1 - _LAST_BITS)):
        threshold_C[options] = _threshold(truth_N[np.isin(chosen_N, options)], coverage)
    return [float(one) for one in threshold_C]


def _groups(count_C: NDArray[np.int64], enough: int) -> list[list[int]]:
    """Options with images enough stand alone; the rest share a group, into which the rarest of those go if it needs."""
    shared: list[int] = []
    alone: list[list[int]] = []
    for option in np.argsort(count_C, kind="stable").tolist():
        if count_C[option] < enough or (shared and count_C[shared].sum() < enough):
            shared.append(option)
        else:
            alone.append([option])
    return [*alone, shared] if shared else alone


def _threshold(truth_N: NDArray[np.float32], coverage: float) -> float:
    """The probability that all but the allowed number of images reach for what they are; 0 where none may miss it."""
    outside = len(truth_N) - rank_above(len(truth_N), coverage)
    return float(np.sort(truth_N)[outside]) if outside >= 0 else 0.0


@dataclass(frozen=True)
class SetScores:
    """How the prediction sets do on images whose truth is known."""

    values: dict[str, float]
    """Coverage: decisions whose truth stands in their set. Answered: decisions of which one option is left, of images
    that aren't flagged as out-of-distribution. Accuracy of those; NaN where there are none."""
    intervals: dict[str, Interval]
    """Wilson 1927. The decisions of one image count as one, for they may stand or fall together."""


def set_scores(predictions: Predictions) -> SetScores | None:
    """None where the rule makes no sets."""
    if predictions.rule.set_thresholds is None:
        return None
    truth_ND = predictions.task.decided(predictions.target)
    return _scores(predictions.in_set_NDC, truth_ND, predictions.flagged_N)


def level_set_scores(predictions: Predictions) -> dict[str, SetScores]:
    """Of each level above the classes: its set holds the ancestors of the classes in the set."""
    if predictions.rule.set_thresholds is None:
        return {}
    found = {}
    for level in predictions.task.coarser_levels():
        is_below_KL = level.ancestor_K[:, None] == np.arange(len(level.classes))
        in_set_NDL = (predictions.in_set_NDC.astype(np.float32) @ is_below_KL.astype(np.float32)) > 0
        truth_ND = level.ancestor_K[predictions.task.decided(predictions.target)]
        found[level.name] = _scores(in_set_NDL, truth_ND, predictions.flagged_N)
    return found


def _scores(in_set_NDC: NDArray[np.bool_], truth_ND: NDArray[np.int64], flagged_N: NDArray[np.bool_]) -> SetScores:
    covered_ND = np.take_along_axis(in_set_NDC, truth_ND[:, :, None], axis=2)[:, :, 0]
    answered_ND = (in_set_NDC.sum(axis=2) == 1) & ~flagged_N[:, None]
    of_all = {COVERAGE: covered_ND.ravel(), ANSWERED: answered_ND.ravel()}
    found = of_all | {ANSWERED_ACCURACY: covered_ND[answered_ND]}
    decisions = truth_ND.shape[1]
    return SetScores(
        {name: float(one.mean()) if len(one) else math.nan for name, one in found.items()},
        {name: _interval(one, decisions) for name, one in found.items() if len(one)},
    )


def _interval(true: NDArray[np.bool_], decisions: int) -> Interval:
    images = max(1, round(len(true) / decisions))
    return fraction_interval(round(float(true.mean()) * images), images)
