"""The rule by which a model's logits become answers, fitted on the validation split.

Letters: N images, K classes.
"""

import numpy as np
from numpy.typing import NDArray

from components.evaluation.calibration import fit_temperature
from components.evaluation.ood import fit_ood_threshold
from components.evaluation.predictions import Predictions
from components.task.label_space import AnswerRule

LEAST_POSITIVES = 10
"""A label with fewer images keeps the threshold 0.5: the best one for so few is that of the next few no more."""


def fit_answers(validation: Predictions) -> AnswerRule:
    """The temperature with the least log loss, the score that 95% of the images stay below, and of sets of labels the
    threshold of each label that has the highest F1 at that temperature."""
    logits_NT, space = validation.logits_NT, validation.space
    rule = AnswerRule(
        temperature=fit_temperature(logits_NT, validation.target, space),
        ood_threshold=fit_ood_threshold(logits_NT, space),
    )
    if space.kind != "multi":
        return rule
    columns = zip(space.probabilities(logits_NT, temperature=rule.temperature).T, validation.target.T, strict=True)
    return rule.model_copy(update={"thresholds": [best_threshold(share_N, has_N) for share_N, has_N in columns]})


def best_threshold(probability_N: NDArray[np.float32], has_N: NDArray[np.bool_]) -> float:
    """The threshold with the highest F1; of several the one nearest to 0.5, which is kept where it is as good."""
    positives = int(has_N.sum())
    if positives < LEAST_POSITIVES:
        return 0.5
    order = np.argsort(-probability_N, kind="stable")
    above_N = probability_N[order].astype(np.float64)
    below_N = np.append(above_N[1:], 0.0)
    # Said of the first k images, the label is right so often; F1 = 2 TP / (said + positives).
    f1_N = 2 * np.cumsum(has_N[order]) / (np.arange(1, len(order) + 1) + positives)
    between_N = (above_N + below_N) / 2
    threshold_N = np.where((below_N < 0.5) & (above_N >= 0.5), 0.5, between_N)
    # Images of equal probability stand on one side.
    possible = np.flatnonzero(above_N > below_N)
    if not len(possible):
        return 0.5
    best = possible[f1_N[possible] >= f1_N[possible].max() - 1e-12]
    return float(threshold_N[best[np.abs(threshold_N[best] - 0.5).argmin()]])
