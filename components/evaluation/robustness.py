"""How accurate a model remains on images that are noisy, blurred, too bright, flat, compressed or coarse.

Letters: N images, T logits, D resamples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.packed.image_stores import ImageRows
from components.evaluation.bootstrap import Interval, fraction_interval, intervals, resamples
from components.evaluation.corruptions import CORRUPTIONS, NUM_STRENGTHS, corrupted
from components.evaluation.metrics import unranked_scores
from components.evaluation.predictions import Predictions, predictions_at
from components.records.analysis import ALL_CORRUPTIONS, UNCORRUPTED, CorruptedScores, MeanAccuracy
from components.shared.progress import Progress

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Squares [N, H, W, C] to logits [N, T]."""


@dataclass(frozen=True)
class Robustness:
    scores: list[CorruptedScores] = field(default_factory=list)
    """The clean images first."""
    means: list[MeanAccuracy] = field(default_factory=list)


def robustness(
    answer: Answer,
    predictions: Predictions,
    pixels_NHWC: ImageRows,
    *,
    most: int,
    top_k: int,
    num_resamples: int,
    seed: int,
    progress: Progress,
) -> Robustness:
    """Scores of the same images clean and under each corruption at each strength; `most` of them at most.

    With `num_resamples` every score has an interval; the resamples are the same for each corruption.
    """
    rows = sample(len(predictions.path_N), most, seed)
    clean = predictions_at(predictions, rows)
    images_NHWC = np.array(pixels_NHWC[rows])
    weight_DN = np.concatenate([np.zeros((0, len(rows))), *resamples(len(rows), count=num_resamples, seed=seed)])
    scored = partial(_scored, top_k=top_k, num_resamples=num_resamples, seed=seed)
    found = [scored(UNCORRUPTED, 0, clean)]
    correct_N_of: dict[str, list[NDArray[np.bool_]]] = {UNCORRUPTED: [clean.correct_N]}
    total = len(CORRUPTIONS) * NUM_STRENGTHS
    for name in CORRUPTIONS:
        for strength in range(1, NUM_STRENGTHS + 1):
            logits_NT = answer(corrupted(images_NHWC, name, strength, seed=seed))
            worse = replace(clean, logits_NT=logits_NT)
            found.append(scored(name, strength, worse))
            correct_N_of.setdefault(name, []).append(worse.correct_N)
            progress("corruptions", len(found) - 1, total)
    correct_N_of[ALL_CORRUPTIONS] = [correct_N for name in CORRUPTIONS for correct_N in correct_N_of[name]]
    return Robustness(found, [_mean(name, correct, weight_DN) for name, correct in correct_N_of.items()])


def sample(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Indices of at most `most` of `count` images, in order; the same for the same numbers."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _scored(
    name: str, strength: int, predictions: Predictions, *, top_k: int, num_resamples: int, seed: int
) -> CorruptedScores:
    values, found = unranked_scores(predictions, top_k=top_k, num_resamples=num_resamples, seed=seed)
    images = len(predictions.path_N)
    return CorruptedScores(
        corruption=name,
        strength=strength,
        images=images,
        accuracy=values["accuracy"],
        interval=fraction_interval(int(predictions.correct_N.sum()), images),
        macro_f1=values["macro_f1"],
        macro_f1_interval=found.get("macro_f1"),
        balanced_accuracy=values["balanced_accuracy"],
        balanced_accuracy_interval=found.get("balanced_accuracy"),
        log_loss=values["log_loss"],
        log_loss_interval=found.get("log_loss"),
        expected_calibration_error=values["expected_calibration_error"],
        expected_calibration_error_interval=found.get("expected_calibration_error"),
    )


def _mean(name: str, correct: list[NDArray[np.bool_]], weight_DN: NDArray[np.float64]) -> MeanAccuracy:
    fraction_N = np.mean(correct, axis=0)
    return MeanAccuracy(name, float(fraction_N.mean()), _interval(weight_DN @ fraction_N / len(fraction_N)))


def _interval(value_D: NDArray[np.floating[Any]]) -> Interval | None:
    return intervals(value_D[:, None])[0] if len(value_D) else None
