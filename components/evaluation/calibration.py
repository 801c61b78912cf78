"""Whether probabilities match frequencies, and the temperature that makes them match.

Letters: N images, T logits of the network, K classes, B bins of confidence.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.records.analysis import ReliabilityBin
from components.task.task import Task

NUM_BINS = 15
"""Equal widths of confidence, as Guo et al. 2017, "On Calibration of Modern Neural Networks", measure."""
_TEMPERATURES = (0.05, 20.0)
_ROWS = 8192


def fit_temperature(logits_NT: NDArray[np.floating[Any]], target: NDArray[Any], task: Task) -> float:
    """The divisor of the class logits with the least log loss on images outside the training split.

    Guo et al. 2017. One imaginary image of which every class is equally true is added: without it, a model whose
    predictions are all correct would become infinitely confident.
    """
    from scipy.optimize import minimize_scalar

    class_logits_NK = task.class_logits(logits_NT)
    lowest, highest = np.log(_TEMPERATURES)

    def loss(log_temperature: float) -> float:
        return _smoothed_log_loss(task, class_logits_NK, target, float(np.exp(-log_temperature)))

    found = minimize_scalar(loss, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-4})
    return round(float(np.exp(found.x)), 4)


def bin_of(confidence: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Bin b holds confidences from b / B to below (b + 1) / B, as in torchmetrics, and the last one those of 1."""
    bin_N: NDArray[np.int64] = np.minimum((confidence * np.float32(NUM_BINS)).astype(np.int64), NUM_BINS - 1)
    return bin_N


def reliability(confidence_N: NDArray[np.floating[Any]], correct_N: NDArray[np.bool_]) -> list[ReliabilityBin]:
    """One entry per bin, also for bins without images (whose means are NaN)."""
    bin_N = bin_of(confidence_N)
    count_B = np.bincount(bin_N, minlength=NUM_BINS)
    confidence_B = np.bincount(bin_N, confidence_N, NUM_BINS)
    correct_B = np.bincount(bin_N, correct_N, NUM_BINS)
    with np.errstate(invalid="ignore"):
        columns = zip(count_B, confidence_B / count_B, correct_B / count_B, strict=True)
    return [ReliabilityBin(int(images), float(mean), float(accuracy)) for images, mean, accuracy in columns]


def _smoothed_log_loss(task: Task, class_logits_NK: NDArray[np.float32], target: NDArray[Any], inverse: float) -> float:
    num_images = len(class_logits_NK)
    smoothing = 1 / (num_images + 1)
    total = 0.0
    for start in range(0, num_images, _ROWS):
        rows = slice(start, start + _ROWS)
        logits_RK = class_logits_NK[rows].astype(np.float64) * inverse
        total += task.smoothed_log_loss(logits_RK, target[rows], smoothing)
    return total / num_images
