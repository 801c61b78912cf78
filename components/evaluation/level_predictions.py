"""Answers beside the truth, of one level: what every score is made of.

Letters: N images, R images of a block, T logits of the network, K classes, C classes of a coarser level.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.predictions import Predictions, same_answers
from components.task.registry import task_type
from components.task.task import Task

Floats = NDArray[np.floating[Any]]
_ROWS = 4096


@dataclass(frozen=True)
class Judged:
    task: str
    """Name of the label type; coarser levels of a hierarchy are single-label."""
    names: Sequence[str]
    target: NDArray[Any]
    predicted: NDArray[Any]
    logits_NK: NDArray[np.float32]
    """Of the answers, before the temperature."""
    temperature: float
    unscaled: "Judged | None" = None
    """The same answers with the probabilities before the temperature; None where there is none."""

    @property
    def exclusive(self) -> bool:
        """Whether each image has exactly one class."""
        return task_type(self.task).exclusive

    @property
    def num_images(self) -> int:
        return len(self.target)

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        return same_answers(self.target, self.predicted)

    @property
    def images_K(self) -> NDArray[np.int64]:
        """Images that have each class."""
        if not self.exclusive:
            return np.asarray(self.target.sum(axis=0), np.int64)
        return np.bincount(self.target, minlength=len(self.names))

    def probabilities(self, rows: slice) -> NDArray[np.float32]:
        """[R, K]; they sum to 1 but for sets."""
        from scipy.special import expit, softmax

        logits_RK = self.logits_NK[rows] / np.float32(self.temperature)
        probability_RK: NDArray[np.float32] = expit(logits_RK) if not self.exclusive else softmax(logits_RK, axis=1)
        return probability_RK

    def truth_probabilities(self, rows: slice) -> NDArray[np.float64]:
        """Of the true class [R]; of sets, of what is true of each label [R, K]."""
        if self.exclusive:
            return _at(self.probabilities(rows), self.target[rows]).astype(np.float64)
        from scipy.special import expit

        # Of both sides, for one minus a probability near 1 has few digits.
        logits_RK = self.logits_NK[rows].astype(np.float64) / self.temperature
        truth_RK: NDArray[np.float64] = expit(np.where(self.target[rows], logits_RK, -logits_RK))
        return truth_RK

    def confidences(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probability of the answer and if it is right [R]; of sets, of each label and if it is true [R, K]."""
        probability_RK = self.probabilities(rows)
        if not self.exclusive:
            return probability_RK, self.target[rows]
        return _at(probability_RK, self.predicted[rows]), self.target[rows] == self.predicted[rows]

    def ranks(self, rows: slice) -> NDArray[np.int64]:
        """Classes that are more probable than the true one [R]; of a set, than the most probable one of it.

        Equal ones rank by their place, as the first of the largest is the answer. An image without labels ranks first
        where none is said, else last.
        """
        logits_RK, target = self.logits_NK[rows], self.target[rows]
        if self.exclusive:
            return _ranks(logits_RK, target)
        rank_R = _ranks(logits_RK, np.where(target, logits_RK, -np.inf).argmax(axis=1))
        silent_R = np.where(self.predicted[rows].any(axis=1), len(self.names), 0)
        return np.where(target.any(axis=1), rank_R, silent_R)

    def positives(self) -> list[NDArray[np.int64]]:
        """Places of each class's images."""
        if not self.exclusive:
            return [np.flatnonzero(column_N) for column_N in self.target.T]
        order = np.argsort(self.target, kind="stable")
        return np.split(order, np.searchsorted(self.target[order], np.arange(1, len(self.names))))


def blocks_of(num_images: int) -> Iterator[slice]:
    """Rows to look at at once: of many classes all of them would not fit in memory."""
    for start in range(0, num_images, _ROWS):
        yield slice(start, min(start + _ROWS, num_images))


def judge(predictions: Predictions) -> Judged:
    judged = Judged(
        task=predictions.task.task,
        names=predictions.classes,
        target=predictions.target,
        predicted=predictions.predicted,
        logits_NK=predictions.task.class_logits(predictions.logits_NT),
        temperature=predictions.answers.temperature,
    )
    return replace(judged, unscaled=replace(judged, temperature=1.0)) if judged.temperature != 1 else judged


def levels_above(task: Task, judged: Judged) -> dict[str, Judged]:
    """Of a hierarchy, each level above the leaves by its name, the coarsest first; empty for other kinds of labels."""
    found = {}
    for level in task.coarser_levels():
        coarse = _coarsened(judged, level.classes, level.ancestor_K)
        if judged.unscaled is not None:
            coarse = replace(coarse, unscaled=_coarsened(judged.unscaled, level.classes, level.ancestor_K))
        found[level.name] = coarse
    return found


def _coarsened(judged: Judged, names: Sequence[str], ancestor_K: NDArray[np.int64]) -> Judged:
    """The ancestor of the answer, and the sum of the probabilities below each class."""
    below_KC = (ancestor_K[:, None] == np.arange(len(names))).astype(np.float32)
    sum_NC = np.concatenate([judged.probabilities(rows) @ below_KC for rows in blocks_of(judged.num_images)])
    logits_NC = np.log(np.maximum(sum_NC, np.finfo(np.float32).tiny))
    return Judged("single_label", names, ancestor_K[judged.target], ancestor_K[judged.predicted], logits_NC, 1.0)


def _at(values_RK: NDArray[np.float32], place_R: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.take_along_axis(values_RK, place_R[:, None], axis=1)[:, 0]


def _ranks(logits_RK: NDArray[np.float32], place_R: NDArray[np.int64]) -> NDArray[np.int64]:
    own_R1 = _at(logits_RK, place_R)[:, None]
    before_RK = np.arange(logits_RK.shape[1]) < place_R[:, None]
    rank_R: NDArray[np.int64] = ((logits_RK > own_R1) | ((logits_RK == own_R1) & before_RK)).sum(axis=1)
    return rank_R
