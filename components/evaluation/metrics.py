"""Scores of predictions, computed by scikit-learn.

Letters: N images, K classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import (
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from components.evaluation.predictions import Predictions


@dataclass(frozen=True)
class ClassScores:
    label: str
    precision: float
    """In [0, 1]; 0 where the class was never predicted."""
    recall: float
    f1: float
    roc_auc: float
    """One against the rest; NaN where the part holds only one of the two."""
    images: int


@dataclass(frozen=True)
class Scores:
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    """Unweighted mean over the classes that the images have."""
    top_k_accuracy: float
    macro_roc_auc: float
    log_loss: float
    """In nats."""
    images: int
    classes: list[ClassScores]
    confusion: list[list[int]]
    """Rows: true classes; columns: predicted ones."""

    def headline(self) -> dict[str, float]:
        """The scalars, for a tracking server."""
        return {
            name: float(getattr(self, name))
            for name in (
                "accuracy",
                "macro_precision",
                "macro_recall",
                "macro_f1",
                "top_k_accuracy",
                "macro_roc_auc",
                "log_loss",
            )
        }


def score(predictions: Predictions, *, top_k: int) -> Scores:
    target, predicted = predictions.target, predictions.predicted
    probabilities = predictions.probabilities_NK.astype(np.float64)
    indices = list(range(len(predictions.classes)))
    per_class = precision_recall_fscore_support(target, predicted, labels=indices, zero_division=0)
    classes = [
        ClassScores(
            label=label,
            precision=float(per_class[0][index]),
            recall=float(per_class[1][index]),
            f1=float(per_class[2][index]),
            roc_auc=_roc_auc(target == index, probabilities[:, index]),
            images=int(per_class[3][index]),
        )
        for index, label in enumerate(predictions.classes)
    ]
    present = [one for one in classes if one.images]
    ranked = np.argsort(-probabilities, axis=1)[:, :top_k]
    return Scores(
        accuracy=float(predictions.correct_N.mean()),
        macro_precision=_mean(one.precision for one in present),
        macro_recall=_mean(one.recall for one in present),
        macro_f1=_mean(one.f1 for one in present),
        top_k_accuracy=float((ranked == target[:, None]).any(axis=1).mean()),
        macro_roc_auc=_mean(one.roc_auc for one in present),
        log_loss=float(log_loss(target, probabilities / probabilities.sum(axis=1, keepdims=True), labels=indices)),
        images=len(target),
        classes=classes,
        confusion=confusion_matrix(target, predicted, labels=indices).tolist(),
    )


def _roc_auc(positive_N: Any, probability_N: Any) -> float:
    if positive_N.all() or not positive_N.any():
        return float("nan")
    return float(roc_auc_score(positive_N, probability_N))


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
