"""Which images to inspect: confident errors, unconfident correct predictions, suspected labels, and their nearest
training images.

Letters: N images, C options of a choice, F features, E near images.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.quality.label_errors import confident_disagreement
from components.evaluation.predictions import Predictions
from components.records.analysis import SuspectedLabel

_ROWS = 1024


def high_confidence_errors(predictions: Predictions, most: int) -> list[int]:
    """Indices of the wrong predictions, the most confident first."""
    return _ordered(np.flatnonzero(~predictions.correct_N), -predictions.confidence_N)[:most]


def low_confidence_correct(predictions: Predictions, most: int) -> list[int]:
    """Indices of the correct predictions with the lowest confidence, the lowest first."""
    return _ordered(np.flatnonzero(predictions.correct_N), predictions.confidence_N)[:most]


def suspected_labels(predictions: Predictions, most: int) -> list[SuspectedLabel]:
    """Labels of the test images that confident learning contradicts, the least probable label first.

    In multi-label tasks each label is checked on its own: the image has it or not.
    """
    found: list[SuspectedLabel] = []
    for names, probability_NC, given_N in predictions.task.choices(predictions.probabilities_NK, predictions.target):
        suggested_N, score_N = confident_disagreement(probability_NC, given_N)
        found += [
            SuspectedLabel(predictions.path_N[row], names[given_N[row]], names[suggested_N[row]], float(score_N[row]))
            for row in np.flatnonzero(suggested_N != given_N)
        ]
    return sorted(found, key=lambda one: (-one.score, one.path, one.label))[:most]


def nearest(
    features_NF: NDArray[np.float32], known_MF: NDArray[np.float32], *, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each image the indices of the `count` known ones with the largest cosine, and the cosines [N, E]."""
    count = min(count, len(known_MF))
    known_MF = _unit(known_MF)
    indices, cosines = [], []
    for start in range(0, len(features_NF), _ROWS):
        cosine_RM = _unit(features_NF[start : start + _ROWS]) @ known_MF.T
        index_RE = np.argsort(-cosine_RM, axis=1, kind="stable")[:, :count]
        indices.append(index_RE)
        cosines.append(np.take_along_axis(cosine_RM, index_RE, axis=1))
    if not indices:
        return np.zeros((0, count), np.int64), np.zeros((0, count), np.float32)
    return np.concatenate(indices), np.concatenate(cosines)


def _ordered(rows: NDArray[np.int64], key_N: NDArray[np.floating[Any]]) -> list[int]:
    return [int(row) for row in rows[np.argsort(key_N[rows], kind="stable")]]


def _unit(features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features_NF, axis=1, keepdims=True)
    unit: NDArray[np.float32] = features_NF / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
