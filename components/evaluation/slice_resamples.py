"""Macro F1 of many parts of the images at once, in each draw of a bootstrap.

A draw says how often each image counts, so the hits of a class in a slice are a product of a sparse matrix with the
draws: nothing is predicted, sorted or copied again.

Letters: N images, K classes, D draws, S slices, E images of all slices, R pairs of a slice and a class that it has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from components.evaluation.bootstrap import Interval, draws, intervals
from components.evaluation.level_predictions import Floats, Judged
from components.evaluation.metric_values import macro_f1_at

_BLOCK_BYTES = 64e6


@dataclass(frozen=True)
class SliceCounts:
    """What to multiply draws [N, D] with for the images of each pair that were hit, said and there."""

    hit_RN: Any
    said_RN: Any
    there_RN: Any
    pairs_SR: Any
    """Of each slice its pairs."""

    @classmethod
    def of(cls, judged: Judged, rows_S: Sequence[NDArray[np.int64]]) -> "SliceCounts":
        num_classes = len(judged.names)
        image_E = np.concatenate(rows_S)
        slice_E = np.repeat(np.arange(len(rows_S)), [len(rows) for rows in rows_S])
        target_NK, said_NK = (_one_hot(of, num_classes) for of in (judged.target, judged.predicted))
        keys = [_keys(flags_NK, image_E, slice_E, num_classes) for flags_NK in (target_NK, said_NK)]
        hit = _keys(target_NK * said_NK, image_E, slice_E, num_classes)
        key_R = np.unique(keys[0][0])
        there_RN, said_RN, hit_RN = (_matrix(key_R, *one, judged.num_images) for one in (*keys, hit))
        slice_R = key_R // num_classes
        pairs_SR = csr_array((np.ones(len(key_R)), (slice_R, np.arange(len(key_R)))), shape=(len(rows_S), len(key_R)))
        return cls(hit_RN, said_RN, there_RN, pairs_SR)

    def macro_f1(self, weight_DN: Floats) -> Floats:
        """[D, S], over the classes that a draw has in the slice; NaN where it has none."""
        return np.concatenate([self._macro_f1(weight_ND) for weight_ND in self._blocks(weight_DN)], axis=1).T

    def _blocks(self, weight_DN: Floats) -> Iterator[Floats]:
        draws_at_once = max(1, int(_BLOCK_BYTES / (8 * max(1, self.there_RN.shape[0]))))
        for start in range(0, len(weight_DN), draws_at_once):
            yield np.ascontiguousarray(weight_DN[start : start + draws_at_once].T)

    def _macro_f1(self, weight_ND: Floats) -> Floats:
        there_RD = self.there_RN @ weight_ND
        hit_RD, said_RD = self.hit_RN @ weight_ND, self.said_RN @ weight_ND
        # A class that the draw lacks was not hit either, so it adds nothing to the sum.
        f1_RD = 2 * hit_RD / np.maximum(said_RD + there_RD, 1)
        with np.errstate(invalid="ignore"):
            found: Floats = (self.pairs_SR @ f1_RD) / (self.pairs_SR @ (there_RD > 0).astype(np.float64))
        return found


def macro_f1_of_slices(
    judged: Judged, rows_S: Sequence[NDArray[np.int64]], *, num_resamples: int, seed: int
) -> tuple[list[float], list[Interval | None]]:
    """Of each slice, with the middle 95% of draws of all images; None without draws."""
    values = [macro_f1_at(judged, rows) for rows in rows_S]
    if not num_resamples:
        return values, [None] * len(rows_S)
    counts = SliceCounts.of(judged, rows_S)
    drawn_DS = np.concatenate(
        [counts.macro_f1(weight_DN) for weight_DN in draws(judged.num_images, count=num_resamples, seed=seed)]
    )
    return values, list(intervals(drawn_DS))


def _one_hot(label: NDArray[Any], num_classes: int) -> Any:
    """[N, K] from class indices or sets."""
    if label.ndim == 2:
        return csr_array(label.astype(np.float64))
    return csr_array((np.ones(len(label)), (np.arange(len(label)), label)), shape=(len(label), num_classes))


def _keys(
    flags_NK: Any, image_E: NDArray[np.int64], slice_E: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each image with each of its classes in each slice: the number of the pair, and the image."""
    flags_EK = flags_NK[image_E].tocoo()
    return slice_E[flags_EK.row] * num_classes + flags_EK.col, image_E[flags_EK.row]


def _matrix(key_R: NDArray[np.int64], key_P: NDArray[np.int64], image_P: NDArray[np.int64], num_images: int) -> Any:
    """[R, N]; what was said of a class that the slice hasn't counts nowhere."""
    if not len(key_R):
        return csr_array((0, num_images))
    place_P = np.minimum(np.searchsorted(key_R, key_P), len(key_R) - 1)
    known_P = key_R[place_P] == key_P
    return csr_array(
        (np.ones(int(known_P.sum())), (place_P[known_P], image_P[known_P])), shape=(len(key_R), num_images)
    )
