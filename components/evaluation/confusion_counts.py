"""Precision, recall and F1 from counts of images, for many draws at once; and which classes are taken for which.

Letters: N images, K classes, D draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evaluation.level_predictions import Floats, Judged
from components.records.scores import ConfusedPair

_CLASSES = 64
_SHOWN_PAIRS = 100


@dataclass(frozen=True)
class Counts:
    """Images of each class that were hit, said and there, in each draw."""

    hit_DK: Floats
    said_DK: Floats
    there_DK: Floats

    def of_classes(self) -> dict[str, Floats]:
        """Precision, recall and F1 [D, K]; NaN where a draw has no image of the class."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "precision": np.where(self.said_DK > 0, self.hit_DK / self.said_DK, 0.0),
                "recall": self.hit_DK / self.there_DK,
                "f1": 2 * self.hit_DK / (self.said_DK + self.there_DK),
            }
        return {name: np.where(self.there_DK > 0, values_DK, np.nan) for name, values_DK in found.items()}

    def averages(self) -> dict[str, Floats]:
        """Of each draw the scores that are means over classes [D]: over those that it has images of."""
        averages: dict[str, Floats] = {}
        total_D = self.there_DK.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, values_DK in self.of_classes().items():
                averages[f"macro_{name}"] = np.nansum(values_DK, axis=1) / (self.there_DK > 0).sum(axis=1)
                averages[f"weighted_{name}"] = np.nansum(values_DK * self.there_DK, axis=1) / total_D
            hits_D, said_D = self.hit_DK.sum(axis=1), self.said_DK.sum(axis=1)
            averages["micro_precision"] = np.where(said_D > 0, hits_D / said_D, 0.0)
            averages["micro_recall"] = hits_D / total_D
            averages["micro_f1"] = 2 * hits_D / (said_D + total_D)
        averages["balanced_accuracy"] = averages["macro_recall"]
        return averages


def count(judged: Judged, weight_DN: Floats) -> Counts:
    """Each image counts as often as the draw's row of weights says."""
    num_classes = len(judged.names)
    if not judged.exclusive:
        flags = (judged.target & judged.predicted, judged.predicted, judged.target)
        blocks = [slice(start, start + _CLASSES) for start in range(0, num_classes, _CLASSES)]
        return Counts(
            *(np.concatenate([weight_DN @ flags_NK[:, block] for block in blocks], axis=1) for flags_NK in flags)
        )
    hit = np.flatnonzero(judged.correct_N)
    sides = ((judged.target[hit], weight_DN[:, hit]), (judged.predicted, weight_DN), (judged.target, weight_DN))
    return Counts(*(_by_label(label_N, own_DN, num_classes) for label_N, own_DN in sides))


def _by_label(label_N: NDArray[np.int64], weight_DN: Floats, num_classes: int) -> Floats:
    return np.stack([np.bincount(label_N, weight_N, num_classes).astype(np.float64) for weight_N in weight_DN])


def confusion(judged: Judged) -> NDArray[np.int64]:
    """[true class, predicted class]; of sets how often the second was said too much where the first was missed."""
    if not judged.exclusive:
        missed_NK = (judged.target & ~judged.predicted).astype(np.float32)
        extra_NK = (judged.predicted & ~judged.target).astype(np.float32)
        instead: NDArray[np.int64] = (missed_NK.T @ extra_NK).astype(np.int64)
        return instead
    from sklearn.metrics import confusion_matrix

    found: NDArray[np.int64] = confusion_matrix(judged.target, judged.predicted, labels=np.arange(len(judged.names)))
    return found


def confused_pairs(pairs_KK: NDArray[np.int64], names: Sequence[str], count_K: NDArray[np.int64]) -> list[ConfusedPair]:
    """Of a confusion the pairs off its diagonal, the most frequent first."""
    wrong_KK = pairs_KK.copy()
    np.fill_diagonal(wrong_KK, 0)
    rows, columns = np.nonzero(wrong_KK)
    share = wrong_KK[rows, columns] / count_K[rows]
    order = np.lexsort((columns, rows, -share, -wrong_KK[rows, columns]))[:_SHOWN_PAIRS]
    return [
        ConfusedPair(names[rows[at]], names[columns[at]], int(wrong_KK[rows[at], columns[at]]), float(share[at]))
        for at in order
    ]
