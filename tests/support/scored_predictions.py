"""Predictions to score: random ones whose answers lean towards the truth."""

import numpy as np
from numpy.typing import NDArray

from components.evaluation.predictions import Predictions
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule


def single_label_predictions(
    target_N: NDArray[np.int64], logits_NK: NDArray[np.floating], *, rule: DecisionRule | None = None
) -> Predictions:
    classes = [f"c{number:02d}" for number in range(logits_NK.shape[1])]
    return Predictions(
        path_N=[f"{number:04d}.png" for number in range(len(target_N))],
        sha256_N=[f"{number:064x}" for number in range(len(target_N))],
        target=np.asarray(target_N),
        logits_NT=np.asarray(logits_NK, np.float32),
        task=SingleLabel(classes=classes),
        rule=rule or DecisionRule(),
    )


def leaning(count: int, classes: int, *, lean: float, seed: int = 0) -> Predictions:
    """The larger `lean`, the more answers are right."""
    random = np.random.default_rng(seed)
    target_N = np.arange(count) % classes
    logits_NK = random.normal(size=(count, classes))
    logits_NK[np.arange(count), target_N] += lean
    return single_label_predictions(target_N, logits_NK)
