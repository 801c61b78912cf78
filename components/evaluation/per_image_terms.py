"""What each image adds to the scores that are means over images: what the resamples of a bootstrap are made of.

Letters: N images, R images of a block, B bins of confidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.evaluation.calibration import NUM_BINS, bin_of
from components.evaluation.level_predictions import Floats, LevelPredictions, blocks_of


@dataclass(frozen=True)
class ImageTerms:
    means: Mapping[str, Floats]
    """By score: its mean over the images is the score."""
    gaps: Mapping[str, Floats]
    """By score, truth minus confidence in the bin of the confidence [N, B]; of several labels the mean."""


def image_terms(level: LevelPredictions, *, top_k: int) -> ImageTerms:
    blocks = [_block(level, rows, top_k) for rows in blocks_of(level.num_images)]
    means: dict[str, Floats] = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    gaps = {"expected_calibration_error": _gaps(level)}
    if level.unscaled is not None:
        gaps["expected_calibration_error_before_scaling"] = _gaps(level.unscaled)
    return ImageTerms(means | level.exact_terms(), gaps)


def _block(level: LevelPredictions, rows: slice, top_k: int) -> dict[str, Floats]:
    return level.loss_terms(rows) | {"top_k_accuracy": (level.ranks(rows) < top_k).astype(np.float64)}


def _gaps(level: LevelPredictions) -> Floats:
    gap_NB = np.zeros((level.num_images, NUM_BINS), np.float64)
    for rows in blocks_of(level.num_images):
        confidence, true = level.confidences(rows)
        confidence_RL, true_RL = confidence.reshape(len(true), -1), true.reshape(len(true), -1)
        bin_RL = bin_of(confidence_RL) + NUM_BINS * np.arange(len(true_RL))[:, None]
        summed = np.bincount(bin_RL.ravel(), (true_RL - confidence_RL).ravel(), NUM_BINS * len(true_RL))
        gap_NB[rows] = summed.reshape(-1, NUM_BINS) / true_RL.shape[1]
    return gap_NB
