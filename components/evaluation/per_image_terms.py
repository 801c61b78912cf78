"""What each image adds to the scores that are means over images: what the draws of a bootstrap are made of.

Letters: N images, R images of a block, C classes of a block, B bins of confidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evaluation.calibration import NUM_BINS, bin_of
from components.evaluation.level_predictions import Floats, Judged, blocks_of
from components.evaluation.ranking_metrics import Columns

_LEAST_PROBABILITY = np.finfo(np.float64).eps
"""scikit-learn's log loss takes smaller ones for this one: no image adds more than 36 nats."""


@dataclass(frozen=True)
class ImageTerms:
    means: Mapping[str, Floats]
    """By score: its mean over the images is the score."""
    gaps: Mapping[str, Floats]
    """By score, right minus sure in the bin of its confidence [N, B]; over the labels of a set, their mean."""


def image_terms(judged: Judged, *, top_k: int) -> ImageTerms:
    accuracy_N = judged.correct_N.astype(np.float64)
    blocks = [_block(judged, rows, top_k) for rows in blocks_of(judged.num_images)]
    means: dict[str, Floats] = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    means["accuracy"] = accuracy_N
    if not judged.exclusive:
        means |= {"subset_accuracy": accuracy_N, "hamming_loss": (judged.target != judged.predicted).mean(axis=1)}
    gaps = {"expected_calibration_error": _gaps(judged)}
    if judged.unscaled is not None:
        gaps["expected_calibration_error_before_scaling"] = _gaps(judged.unscaled)
    return ImageTerms(means, gaps)


def _block(judged: Judged, rows: slice, top_k: int) -> dict[str, Floats]:
    truth, probability_RK = judged.truth_probabilities(rows), judged.probabilities(rows)
    loss: Floats = -np.log(np.maximum(truth, _LEAST_PROBABILITY))
    if not judged.exclusive:
        brier_R: Floats = ((judged.target[rows] - probability_RK) ** 2).mean(axis=1, dtype=np.float64)
        loss = loss.mean(axis=1)
    else:
        brier_R = np.einsum("rk,rk->r", probability_RK, probability_RK) - 2 * truth + 1
    return {"log_loss": loss, "brier": brier_R, "top_k_accuracy": (judged.ranks(rows) < top_k).astype(np.float64)}


def _gaps(judged: Judged) -> Floats:
    gap_NB = np.zeros((judged.num_images, NUM_BINS), np.float64)
    for rows in blocks_of(judged.num_images):
        confidence, right = judged.confidences(rows)
        confidence_RL, right_RL = confidence.reshape(len(right), -1), right.reshape(len(right), -1)
        place_RL = bin_of(confidence_RL) + NUM_BINS * np.arange(len(right_RL))[:, None]
        summed = np.bincount(place_RL.ravel(), (right_RL - confidence_RL).ravel(), NUM_BINS * len(right_RL))
        gap_NB[rows] = summed.reshape(-1, NUM_BINS) / right_RL.shape[1]
    return gap_NB


def columns_of(judged: Judged) -> Columns:
    """What ranks the images for each class of a block: their probabilities."""
    scale = np.float32(judged.temperature)
    if not judged.exclusive:
        # A probability near 1 has fewer digits than its logit, and ranks alike.
        return lambda first, end: np.ascontiguousarray(judged.logits_NK[:, first:end].T)
    largest_N, log_sum_N = (np.empty(judged.num_images, np.float32) for _ in range(2))
    for rows in blocks_of(judged.num_images):
        logits_RK = judged.logits_NK[rows] / scale
        largest_N[rows] = logits_RK.max(axis=1)
        logits_RK -= largest_N[rows, None]
        log_sum_N[rows] = np.log(np.exp(logits_RK, out=logits_RK).sum(axis=1))

    def columns(first: int, end: int) -> NDArray[np.float32]:
        block_NC = judged.logits_NK[:, first:end] / scale
        block_NC -= largest_N[:, None]
        block_NC -= log_sum_N[:, None]
        np.exp(block_NC, out=block_NC)
        return np.ascontiguousarray(block_NC.T)

    return columns
