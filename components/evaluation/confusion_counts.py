"""Precision, recall and F1 from counts of images, for many resamples at once; and which classes are confused.

Letters: N images, K classes, D resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evaluation.level_predictions import Floats, LevelPredictions
from components.records.scores import ConfusedPair

_SHOWN_PAIRS = 100


@dataclass(frozen=True)
class Counts:
    """Images of each class that are correctly predicted, predicted, and true, in each resample."""

    correct_DK: Floats
    pred_DK: Floats
    true_DK: Floats

    def of_classes(self) -> dict[str, Floats]:
        """Precision, recall and F1 [D, K]; NaN where a resample has no image of the class."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "precision": np.where(self.pred_DK > 0, self.correct_DK / self.pred_DK, 0.0),
                "recall": self.correct_DK / self.true_DK,
                "f1": 2 * self.correct_DK / (self.pred_DK + self.true_DK),
            }
        return {name: np.where(self.true_DK > 0, values_DK, np.nan) for name, values_DK in found.items()}

    def averages(self) -> dict[str, Floats]:
        """Scores of each resample that are means over classes [D]: over those that it has images of."""
        averages: dict[str, Floats] = {}
        total_D = self.true_DK.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, values_DK in self.of_classes().items():
                averages[f"macro_{name}"] = np.nansum(values_DK, axis=1) / (self.true_DK > 0).sum(axis=1)
                averages[f"weighted_{name}"] = np.nansum(values_DK * self.true_DK, axis=1) / total_D
            correct_D, pred_D = self.correct_DK.sum(axis=1), self.pred_DK.sum(axis=1)
            averages["micro_precision"] = np.where(pred_D > 0, correct_D / pred_D, 0.0)
            averages["micro_recall"] = correct_D / total_D
            averages["micro_f1"] = 2 * correct_D / (pred_D + total_D)
        averages["balanced_accuracy"] = averages["macro_recall"]
        return averages


def count(level: LevelPredictions, weight_DN: Floats) -> Counts:
    """Each image counts as often as the resample's row of weights says."""
    return Counts(*level.weighted_counts(weight_DN))


def confused_pairs(pairs_KK: NDArray[np.int64], names: Sequence[str], count_K: NDArray[np.int64]) -> list[ConfusedPair]:
    """Of a confusion the pairs off its diagonal, the most frequent first."""
    wrong_KK = pairs_KK.copy()
    np.fill_diagonal(wrong_KK, 0)
    rows, columns = np.nonzero(wrong_KK)
    fraction = wrong_KK[rows, columns] / count_K[rows]
    order = np.lexsort((columns, rows, -fraction, -wrong_KK[rows, columns]))[:_SHOWN_PAIRS]
    return [
        ConfusedPair(names[rows[at]], names[columns[at]], int(wrong_KK[rows[at], columns[at]]), float(fraction[at]))
        for at in order
    ]
