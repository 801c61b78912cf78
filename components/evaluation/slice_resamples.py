"""Macro F1 of many slices of the images at once, in each resample of a bootstrap.

A resample says how often each image counts, so the correct predictions of a class in a slice are a product of a sparse
matrix with the resamples: nothing is predicted, sorted or copied again.

Letters: N images, K classes, D resamples, S slices, E images of all slices, R pairs of a slice and a class that it has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from components.evaluation.bootstrap import Interval, intervals, resamples
from components.evaluation.level_predictions import Floats, LevelPredictions
from components.evaluation.metric_values import macro_f1_at

_BLOCK_BYTES = 64e6


@dataclass(frozen=True)
class SliceCounts:
    """What to multiply resamples [N, D] with to count the images of each pair: correctly predicted, predicted, true."""

    correct_RN: Any
    pred_RN: Any
    true_RN: Any
    pairs_SR: Any
    """Of each slice its pairs."""

    @classmethod
    def of(cls, level: LevelPredictions, rows_S: Sequence[NDArray[np.int64]]) -> "SliceCounts":
        num_classes = len(level.names)
        image_E = np.concatenate(rows_S)
        slice_E = np.repeat(np.arange(len(rows_S)), [len(rows) for rows in rows_S])
        target_NK, pred_NK = level.indicators()
        keys = [_keys(flags_NK, image_E, slice_E, num_classes) for flags_NK in (target_NK, pred_NK)]
        correct = _keys(target_NK * pred_NK, image_E, slice_E, num_classes)
        key_R = np.unique(keys[0][0])
        true_RN, pred_RN, correct_RN = (_matrix(key_R, *one, level.num_images) for one in (*keys, correct))
        slice_R = key_R // num_classes
        pairs_SR = csr_array((np.ones(len(key_R)), (slice_R, np.arange(len(key_R)))), shape=(len(rows_S), len(key_R)))
        return cls(correct_RN, pred_RN, true_RN, pairs_SR)

    def macro_f1(self, weight_DN: Floats) -> Floats:
        """[D, S], over the classes that a resample has in the slice; NaN where it has none."""
        return np.concatenate([self._macro_f1(weight_ND) for weight_ND in self._blocks(weight_DN)], axis=1).T

    def _blocks(self, weight_DN: Floats) -> Iterator[Floats]:
        resamples_at_once = max(1, int(_BLOCK_BYTES / (8 * max(1, self.true_RN.shape[0]))))
        for start in range(0, len(weight_DN), resamples_at_once):
            yield np.ascontiguousarray(weight_DN[start : start + resamples_at_once].T)

    def _macro_f1(self, weight_ND: Floats) -> Floats:
        true_RD = self.true_RN @ weight_ND
        correct_RD, pred_RD = self.correct_RN @ weight_ND, self.pred_RN @ weight_ND
        # A class that the resample lacks was not predicted correctly either, so it adds nothing to the sum.
        f1_RD = 2 * correct_RD / np.maximum(pred_RD + true_RD, 1)
        with np.errstate(invalid="ignore"):
            found: Floats = (self.pairs_SR @ f1_RD) / (self.pairs_SR @ (true_RD > 0).astype(np.float64))
        return found


def macro_f1_of_slices(
    level: LevelPredictions, rows_S: Sequence[NDArray[np.int64]], *, num_resamples: int, seed: int
) -> tuple[list[float], list[Interval | None]]:
    """Of each slice, with the middle 95% of resamples of all images; None without resamples."""
    values = [macro_f1_at(level, rows) for rows in rows_S]
    if not num_resamples:
        return values, [None] * len(rows_S)
    counts = SliceCounts.of(level, rows_S)
    score_DS = np.concatenate(
        [counts.macro_f1(weight_DN) for weight_DN in resamples(level.num_images, count=num_resamples, seed=seed)]
    )
    return values, list(intervals(score_DS))


def _keys(
    flags_NK: Any, image_E: NDArray[np.int64], slice_E: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each image with each of its classes in each slice: the number of the pair, and the image."""
    flags_EK = flags_NK[image_E].tocoo()
    return slice_E[flags_EK.row] * num_classes + flags_EK.col, image_E[flags_EK.row]


def _matrix(key_R: NDArray[np.int64], key_P: NDArray[np.int64], image_P: NDArray[np.int64], num_images: int) -> Any:
    """[R, N]; predictions of a class that the slice lacks count nowhere."""
    if not len(key_R):
        return csr_array((0, num_images))
    index_P = np.minimum(np.searchsorted(key_R, key_P), len(key_R) - 1)
    known_P = key_R[index_P] == key_P
    return csr_array(
        (np.ones(int(known_P.sum())), (index_P[known_P], image_P[known_P])), shape=(len(key_R), num_images)
    )
