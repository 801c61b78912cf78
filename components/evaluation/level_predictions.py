"""The predictions of one level beside the truth: what every score is computed from.

Scores read two forms of predictions. Where classes exclude each other, targets and predictions are class indices; where
an image may have any number of labels, they are truth values. Every label type has one of the two.

Letters: N images, R images of a block, T logits of the network, K classes, C classes of a coarser level, L what
calibration looks at, D resamples.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sklearn.metrics as library
from numpy.typing import NDArray
from scipy.sparse import csr_array

from components.evaluation.predictions import Predictions, same_predictions
from components.task.task import Task

Floats = NDArray[np.floating[Any]]
Columns = Callable[[int, int], NDArray[np.float32]]
"""Scores of the classes from the first to before the last, [classes, N]."""
_ROWS = 4096
_CLASSES = 64
_LEAST_PROBABILITY = np.finfo(np.float64).eps
"""scikit-learn's log loss takes smaller ones for this one: no image adds more than 36 nats."""


@dataclass(frozen=True)
class LevelPredictions:
    """Predictions of one level, and what each score needs to know of them."""

    task: str
    """Name of the label type; coarser levels of a hierarchy are single-label."""
    names: Sequence[str]
    target: NDArray[Any]
    predicted: NDArray[Any]
    logits_NK: NDArray[np.float32]
    """Class logits, before the temperature."""
    temperature: float
    unscaled: "LevelPredictions | None" = None
    """The same predictions with the probabilities before the temperature; None where there is none."""

    @property
    def num_images(self) -> int:
        return len(self.target)

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        return same_predictions(self.target, self.predicted)

    @property
    @abstractmethod
    def images_K(self) -> NDArray[np.int64]:
        """Images that have each class."""

    @abstractmethod
    def positives(self) -> list[NDArray[np.int64]]:
        """Indices of each class's images."""

    @abstractmethod
    def classes_at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices of the classes that some of the images have."""

    # Probabilities and ranks

    @abstractmethod
    def probabilities(self, rows: slice) -> NDArray[np.float32]:
        """[R, K]"""

    @abstractmethod
    def truth_probabilities(self, rows: slice) -> NDArray[np.float64]:
        """Probability of what is true: of the true class [R], or of what is true of each label [R, K]."""

    @abstractmethod
    def confidences(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What calibration looks at: probabilities, and whether what each stands for is true [R] or [R, K]."""

    @abstractmethod
    def ranks(self, rows: slice) -> NDArray[np.int64]:
        """Number of classes more probable than the true one [R]; of equally probable ones, the first ranks first."""

    @abstractmethod
    def ranking_columns(self) -> Columns:
        """What ranks the images for each class: their probabilities, or logits, which rank alike."""

    # Values by scikit-learn

    @abstractmethod
    def for_library(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Targets and predictions in the form that scikit-learn reads as intended."""

    @abstractmethod
    def exact_scores(self) -> dict[str, float]:
        """Scores that compare predictions with targets image by image."""

    @abstractmethod
    def brier(self, rows: slice) -> float: ...

    @abstractmethod
    def top_k_accuracy(self, rows: slice, top_k: int) -> float: ...

    # What each image adds to a score, and counts

    @abstractmethod
    def indicators(self) -> tuple[Any, Any]:
        """Targets and predictions as sparse matrices [N, K] of ones and zeros."""

    @abstractmethod
    def exact_terms(self) -> dict[str, Floats]:
        """What each image adds to `exact_scores` [N]: their means are the scores."""

    @abstractmethod
    def loss_terms(self, rows: slice) -> dict[str, Floats]:
        """What each image adds to the log loss and the Brier score [R]."""

    @abstractmethod
    def weighted_counts(self, weight_DN: Floats) -> tuple[Floats, Floats, Floats]:
        """Images of each class that are correct, predicted and true [D, K], where each image counts by its weight."""

    @abstractmethod
    def confusion(self) -> NDArray[np.int64]:
        """[true class, predicted class], images."""

    @property
    @abstractmethod
    def has_confusion_matrix(self) -> bool:
        """Whether each image stands in exactly one cell of the confusion, so that it is worth a file."""


@dataclass(frozen=True)
class ExclusivePredictions(LevelPredictions):
    """One class an image: targets and predictions are class indices [N]."""

    @property
    def images_K(self) -> NDArray[np.int64]:
        return np.bincount(self.target, minlength=len(self.names))

    def positives(self) -> list[NDArray[np.int64]]:
        order = np.argsort(self.target, kind="stable")
        return np.split(order, np.searchsorted(self.target[order], np.arange(1, len(self.names))))

    def classes_at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(np.unique(self.target[rows]), np.int64)

    def probabilities(self, rows: slice) -> NDArray[np.float32]:
        from scipy.special import softmax

        probability_RK: NDArray[np.float32] = softmax(self.logits_NK[rows] / np.float32(self.temperature), axis=1)
        return probability_RK

    def truth_probabilities(self, rows: slice) -> NDArray[np.float64]:
        return _at(self.probabilities(rows), self.target[rows]).astype(np.float64)

    def confidences(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return _at(self.probabilities(rows), self.predicted[rows]), self.target[rows] == self.predicted[rows]

    def ranks(self, rows: slice) -> NDArray[np.int64]:
        return _ranks(self.logits_NK[rows], self.target[rows])

    def ranking_columns(self) -> Columns:
        scale = np.float32(self.temperature)
        largest_N, log_sum_N = (np.empty(self.num_images, np.float32) for _ in range(2))
        for rows in blocks_of(self.num_images):
            logits_RK = self.logits_NK[rows] / scale
            largest_N[rows] = logits_RK.max(axis=1)
            logits_RK -= largest_N[rows, None]
            log_sum_N[rows] = np.log(np.exp(logits_RK, out=logits_RK).sum(axis=1))

        def columns(first: int, end: int) -> NDArray[np.float32]:
            block_NC = self.logits_NK[:, first:end] / scale
            block_NC -= largest_N[:, None]
            block_NC -= log_sum_N[:, None]
            np.exp(block_NC, out=block_NC)
            return np.ascontiguousarray(block_NC.T)

        return columns

    def for_library(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.target, self.predicted

    def exact_scores(self) -> dict[str, float]:
        return {"accuracy": library.accuracy_score(self.target, self.predicted)}

    def brier(self, rows: slice) -> float:
        if len(self.names) == 1:  # Whose probability is 1, which scikit-learn takes for that of the second of two.
            return 0.0
        labels = np.arange(len(self.names))
        probability_RK = self.probabilities(rows)
        return float(library.brier_score_loss(self.target[rows], probability_RK, labels=labels, scale_by_half=False))

    def top_k_accuracy(self, rows: slice, top_k: int) -> float:
        num_classes = len(self.names)
        if top_k >= num_classes:
            return 1.0
        # Of equally probable classes scikit-learn takes the last ones, the prediction is the first one.
        backwards_RK, labels = self.logits_NK[rows, ::-1], np.arange(num_classes)
        target_R = num_classes - 1 - self.target[rows]
        return float(library.top_k_accuracy_score(target_R, backwards_RK, k=top_k, labels=labels))

    def indicators(self) -> tuple[Any, Any]:
        shape, row_N = (self.num_images, len(self.names)), np.arange(self.num_images)
        target_NK, pred_NK = (
            csr_array((np.ones(self.num_images), (row_N, index_N)), shape=shape)
            for index_N in (self.target, self.predicted)
        )
        return target_NK, pred_NK

    def exact_terms(self) -> dict[str, Floats]:
        return {"accuracy": self.correct_N.astype(np.float64)}

    def loss_terms(self, rows: slice) -> dict[str, Floats]:
        probability_RK = self.probabilities(rows)
        truth_R = _at(probability_RK, self.target[rows]).astype(np.float64)
        brier_R: Floats = np.einsum("rk,rk->r", probability_RK, probability_RK) - 2 * truth_R + 1
        return {"log_loss": _surprise(truth_R), "brier": brier_R}

    def weighted_counts(self, weight_DN: Floats) -> tuple[Floats, Floats, Floats]:
        correct, num_classes = np.flatnonzero(self.correct_N), len(self.names)
        return (
            _by_label(self.target[correct], weight_DN[:, correct], num_classes),
            _by_label(self.predicted, weight_DN, num_classes),
            _by_label(self.target, weight_DN, num_classes),
        )

    def confusion(self) -> NDArray[np.int64]:
        labels = np.arange(len(self.names))
        count_KK: NDArray[np.int64] = library.confusion_matrix(self.target, self.predicted, labels=labels)
        return count_KK

    @property
    def has_confusion_matrix(self) -> bool:
        return True


@dataclass(frozen=True)
class LabelSetPredictions(LevelPredictions):
    """Any number of labels an image: targets and predictions are truth values [N, K]."""

    @property
    def images_K(self) -> NDArray[np.int64]:
        return np.asarray(self.target.sum(axis=0), np.int64)

    def positives(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(column_N) for column_N in self.target.T]

    def classes_at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.flatnonzero(self.target[rows].any(axis=0))

    def probabilities(self, rows: slice) -> NDArray[np.float32]:
        from scipy.special import expit

        probability_RK: NDArray[np.float32] = expit(self.logits_NK[rows] / np.float32(self.temperature))
        return probability_RK

    def truth_probabilities(self, rows: slice) -> NDArray[np.float64]:
        from scipy.special import expit

        # Of both sides, for one minus a probability near 1 has few digits.
        logits_RK = self.logits_NK[rows].astype(np.float64) / self.temperature
        truth_RK: NDArray[np.float64] = expit(np.where(self.target[rows], logits_RK, -logits_RK))
        return truth_RK

    def confidences(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return self.probabilities(rows), self.target[rows]

    def ranks(self, rows: slice) -> NDArray[np.int64]:
        """Of the most probable true label. An image without labels ranks first where none is predicted, else last."""
        logits_RK, target = self.logits_NK[rows], self.target[rows]
        rank_R = _ranks(logits_RK, np.where(target, logits_RK, -np.inf).argmax(axis=1))
        silent_R = np.where(self.predicted[rows].any(axis=1), len(self.names), 0)
        return np.where(target.any(axis=1), rank_R, silent_R)

    def ranking_columns(self) -> Columns:
        # A probability near 1 has fewer digits than its logit, and ranks alike.
        return lambda first, end: np.ascontiguousarray(self.logits_NK[:, first:end].T)

    def for_library(self) -> tuple[NDArray[Any], NDArray[Any]]:
        if len(self.names) > 1:
            return self.target, self.predicted
        # scikit-learn takes a single label for classes 0 and 1: it gets a second one.
        target_N2, pred_N2 = (np.pad(flags_N1, ((0, 0), (0, 1))) for flags_N1 in (self.target, self.predicted))
        return target_N2, pred_N2

    def exact_scores(self) -> dict[str, float]:
        exact = library.accuracy_score(self.target, self.predicted)
        hamming_loss = library.hamming_loss(self.target, self.predicted)
        return {"accuracy": exact, "subset_accuracy": exact, "hamming_loss": hamming_loss}

    def brier(self, rows: slice) -> float:
        probability_RK = self.probabilities(rows)
        return float(library.brier_score_loss(self.target[rows].ravel(), probability_RK.ravel(), pos_label=True))

    def top_k_accuracy(self, rows: slice, top_k: int) -> float:
        return float((self.ranks(rows) < top_k).mean())

    def indicators(self) -> tuple[Any, Any]:
        return csr_array(self.target.astype(np.float64)), csr_array(self.predicted.astype(np.float64))

    def exact_terms(self) -> dict[str, Floats]:
        exact_N = self.correct_N.astype(np.float64)
        hamming_N = (self.target != self.predicted).mean(axis=1)
        return {"accuracy": exact_N, "subset_accuracy": exact_N, "hamming_loss": hamming_N}

    def loss_terms(self, rows: slice) -> dict[str, Floats]:
        brier_R: Floats = ((self.target[rows] - self.probabilities(rows)) ** 2).mean(axis=1, dtype=np.float64)
        return {"log_loss": _surprise(self.truth_probabilities(rows)).mean(axis=1), "brier": brier_R}

    def weighted_counts(self, weight_DN: Floats) -> tuple[Floats, Floats, Floats]:
        correct_DK, pred_DK, true_DK = (
            np.concatenate(
                [weight_DN @ flags_NK[:, start : start + _CLASSES] for start in range(0, len(self.names), _CLASSES)],
                axis=1,
            )
            for flags_NK in (self.target & self.predicted, self.predicted, self.target)
        )
        return correct_DK, pred_DK, true_DK

    def confusion(self) -> NDArray[np.int64]:
        """How often the second label was predicted although absent where the first was missed."""
        missed_NK = (self.target & ~self.predicted).astype(np.float32)
        extra_NK = (self.predicted & ~self.target).astype(np.float32)
        instead_KK: NDArray[np.int64] = (missed_NK.T @ extra_NK).astype(np.int64)
        return instead_KK

    @property
    def has_confusion_matrix(self) -> bool:
        return False


def form_of(task: Task) -> type[LevelPredictions]:
    """The form of a label type's predictions."""
    return ExclusivePredictions if task.exclusive else LabelSetPredictions


def blocks_of(num_images: int) -> Iterator[slice]:
    """Rows to look at at once: of many classes all of them would not fit in memory."""
    for start in range(0, num_images, _ROWS):
        yield slice(start, min(start + _ROWS, num_images))


def finest_level(predictions: Predictions) -> LevelPredictions:
    """The predictions of the classes themselves."""
    finest = form_of(predictions.task)(
        task=predictions.task.task,
        names=predictions.classes,
        target=predictions.target,
        predicted=predictions.predicted,
        logits_NK=predictions.task.class_logits(predictions.logits_NT),
        temperature=predictions.rule.temperature,
    )
    return replace(finest, unscaled=replace(finest, temperature=1.0)) if finest.temperature != 1 else finest


def coarser_levels(task: Task, finest: LevelPredictions) -> dict[str, LevelPredictions]:
    """Each level above the classes by its name, the coarsest first; empty for tasks without levels."""
    found: dict[str, LevelPredictions] = {}
    for level in task.coarser_levels():
        coarse = _coarsened(finest, level.classes, level.ancestor_K)
        if finest.unscaled is not None:
            coarse = replace(coarse, unscaled=_coarsened(finest.unscaled, level.classes, level.ancestor_K))
        found[level.name] = coarse
    return found


def _coarsened(finest: LevelPredictions, names: Sequence[str], ancestor_K: NDArray[np.int64]) -> LevelPredictions:
    """The ancestor of each prediction, and the sum of the probabilities below each class."""
    below_KC = (ancestor_K[:, None] == np.arange(len(names))).astype(np.float32)
    sum_NC = np.concatenate([finest.probabilities(rows) @ below_KC for rows in blocks_of(finest.num_images)])
    logits_NC = np.log(np.maximum(sum_NC, np.finfo(np.float32).tiny))
    target_N, pred_N = ancestor_K[finest.target], ancestor_K[finest.predicted]
    return ExclusivePredictions("single_label", names, target_N, pred_N, logits_NC, 1.0)


def _surprise(truth: Floats) -> Floats:
    """Minus the logarithm of the probability of the truth, in nats."""
    loss: Floats = -np.log(np.maximum(truth, _LEAST_PROBABILITY))
    return loss


def _by_label(label_N: NDArray[np.int64], weight_DN: Floats, num_classes: int) -> Floats:
    return np.stack([np.bincount(label_N, weight_N, num_classes).astype(np.float64) for weight_N in weight_DN])


def _at(values_RK: NDArray[np.float32], index_R: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.take_along_axis(values_RK, index_R[:, None], axis=1)[:, 0]


def _ranks(logits_RK: NDArray[np.float32], index_R: NDArray[np.int64]) -> NDArray[np.int64]:
    own_R1 = _at(logits_RK, index_R)[:, None]
    before_RK = np.arange(logits_RK.shape[1]) < index_R[:, None]
    rank_R: NDArray[np.int64] = ((logits_RK > own_R1) | ((logits_RK == own_R1) & before_RK)).sum(axis=1)
    return rank_R
