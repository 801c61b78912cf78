"""What each image adds to the scores that are means over images.

Letters: N images, R images of a chunk, K classes, B bins of confidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evaluation.calibration import NUM_BINS, bin_of
from components.evaluation.judged import Floats, Judged
from components.evaluation.ranking import Columns

_ROWS = 4096


@dataclass(frozen=True)
class ImageTerms:
    means: Mapping[str, Floats]
    """By score: its mean over the images is the score."""
    gaps: Mapping[str, Floats]
    """By score, right minus sure in the bin of its confidence [N, B]; over the labels of a set, their mean."""
    columns: Columns
    """What ranks the images for each class of a block."""


@dataclass(frozen=True)
class _Terms:
    log_loss_N: Floats
    brier_N: Floats
    gap_NB: Floats
    rank_N: NDArray[np.int64]
    """Classes that are more probable than the true one; of a set, than the most probable one of it."""
    columns: Columns


def image_terms(judged: Judged, *, top_k: int) -> ImageTerms:
    terms = _terms(judged, judged.temperature)
    accuracy_N = judged.correct_N.astype(np.float64)
    means: dict[str, Floats] = {
        "accuracy": accuracy_N,
        "log_loss": terms.log_loss_N,
        "brier": terms.brier_N,
        "top_k_accuracy": (terms.rank_N < top_k).astype(np.float64),
    }
    if judged.kind == "multi":
        means |= {"subset_accuracy": accuracy_N, "hamming_loss": (judged.target != judged.predicted).mean(axis=1)}
    gaps = {"expected_calibration_error": terms.gap_NB}
    if judged.temperature != 1:
        gaps["expected_calibration_error_before_scaling"] = _terms(judged, 1.0).gap_NB
    return ImageTerms(means, gaps, terms.columns)


def _terms(judged: Judged, temperature: float) -> _Terms:
    scale = np.float32(temperature)
    return _of_sets(judged, scale) if judged.kind == "multi" else _of_one_class(judged, scale)


def _rank(logits_RK: NDArray[np.float32], place_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes before the one at the place; equal ones rank by their place, as the largest is chosen."""
    own_R1 = np.take_along_axis(logits_RK, place_R[:, None], axis=1)
    before_RK = np.arange(logits_RK.shape[1]) < place_R[:, None]
    rank_R: NDArray[np.int64] = ((logits_RK > own_R1) | ((logits_RK == own_R1) & before_RK)).sum(axis=1)
    return rank_R


def _of_one_class(judged: Judged, scale: np.float32) -> _Terms:
    num_images = judged.num_images
    log_loss_N, brier_N, largest_N, log_sum_N, confidence_N = (np.empty(num_images, np.float32) for _ in range(5))
    rank_N = np.empty(num_images, np.int64)
    for start in range(0, num_images, _ROWS):
        rows = slice(start, start + _ROWS)
        logits_RK, target_R = judged.logits_NK[rows] / scale, judged.target[rows]
        largest_N[rows] = logits_RK.max(axis=1)
        rank_N[rows] = _rank(logits_RK, target_R)
        logits_RK -= largest_N[rows, None]
        own_R = np.take_along_axis(logits_RK, target_R[:, None], axis=1)[:, 0]
        said_R = np.take_along_axis(logits_RK, judged.predicted[rows, None], axis=1)[:, 0]
        np.exp(logits_RK, out=logits_RK)
        sum_R = logits_RK.sum(axis=1)
        log_sum_N[rows] = np.log(sum_R)
        log_loss_N[rows] = log_sum_N[rows] - own_R
        confidence_N[rows] = np.exp(said_R) / sum_R
        squares_R = np.einsum("rk,rk->r", logits_RK, logits_RK) / sum_R**2
        brier_N[rows] = squares_R - 2 * np.exp(own_R) / sum_R + 1
    gap_NB = np.zeros((num_images, NUM_BINS), np.float32)
    gap_NB[np.arange(num_images), bin_of(confidence_N)] = judged.correct_N - confidence_N

    def columns(first: int, end: int) -> NDArray[np.float32]:
        block_NC = judged.logits_NK[:, first:end] / scale
        block_NC -= largest_N[:, None]
        block_NC -= log_sum_N[:, None]
        np.exp(block_NC, out=block_NC)
        return np.ascontiguousarray(block_NC.T)

    return _Terms(log_loss_N.astype(np.float64), brier_N.astype(np.float64), gap_NB, rank_N, columns)


def _of_sets(judged: Judged, scale: np.float32) -> _Terms:
    num_images, num_classes = judged.logits_NK.shape
    log_loss_N, brier_N = (np.empty(num_images, np.float64) for _ in range(2))
    gap_NB = np.zeros((num_images, NUM_BINS), np.float64)
    rank_N = np.empty(num_images, np.int64)
    for start in range(0, num_images, _ROWS):
        rows = slice(start, start + _ROWS)
        logits_RK, target_RK = judged.logits_NK[rows] / scale, judged.target[rows]
        weaker_RK = np.exp(-np.abs(logits_RK))
        probability_RK = np.where(logits_RK >= 0, 1, weaker_RK) / (1 + weaker_RK)
        log_loss_N[rows] = (np.maximum(logits_RK, 0) - logits_RK * target_RK + np.log1p(weaker_RK)).mean(axis=1)
        gap_RK = target_RK - probability_RK
        brier_N[rows] = (gap_RK**2).mean(axis=1)
        place_RK = bin_of(probability_RK) + NUM_BINS * np.arange(len(gap_RK))[:, None]
        summed = np.bincount(place_RK.ravel(), gap_RK.ravel(), NUM_BINS * len(gap_RK))
        gap_NB[rows] = summed.reshape(-1, NUM_BINS) / num_classes
        likeliest_R = np.where(target_RK, logits_RK, -np.inf).argmax(axis=1)
        # An image without labels is a hit where none is said.
        silent_R = np.where(judged.predicted[rows].any(axis=1), num_classes, 0)
        rank_N[rows] = np.where(target_RK.any(axis=1), _rank(logits_RK, likeliest_R), silent_R)

    # A probability near 1 has fewer digits than its logit, and ranks alike.
    def columns(first: int, end: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(judged.logits_NK[:, first:end].T)

    return _Terms(log_loss_N, brier_N, gap_NB, rank_N, columns)
