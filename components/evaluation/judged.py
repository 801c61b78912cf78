"""Answers beside the truth, of one level: what every score is made of.

Letters: N images, T logits of the network, K classes, C classes of a coarser level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.predictions import Predictions, same_answers
from components.labels import LabelKind

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Judged:
    kind: LabelKind
    names: Sequence[str]
    target: NDArray[Any]
    predicted: NDArray[Any]
    logits_NK: NDArray[np.float32]
    """Of the answers, before the temperature."""
    temperature: float

    @property
    def num_images(self) -> int:
        return len(self.target)

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        return same_answers(self.target, self.predicted)

    def positives(self) -> list[NDArray[np.int64]]:
        """Places of each class's images."""
        if self.kind == "multi":
            return [np.flatnonzero(column_N) for column_N in self.target.T]
        order = np.argsort(self.target, kind="stable")
        return np.split(order, np.searchsorted(self.target[order], np.arange(1, len(self.names))))


def judge(predictions: Predictions) -> Judged:
    return Judged(
        kind=predictions.space.kind,
        names=predictions.classes,
        target=predictions.target,
        predicted=predictions.predicted,
        logits_NK=predictions.space.class_logits(predictions.logits_NT),
        temperature=predictions.answers.temperature,
    )


def levels_above(predictions: Predictions, judged: Judged) -> dict[str, Judged]:
    """Of a hierarchy, each level above the leaves by its name, the coarsest first; empty for other kinds of labels."""
    space = predictions.space
    if space.kind != "hierarchy":
        return {}
    return {
        level.name: _coarsened(judged, level.classes, ancestor_K, predictions.probabilities_NK)
        for level, ancestor_K in zip(space.levels, space.ancestors_DK()[:-1], strict=False)
    }


def _coarsened(judged: Judged, names: Sequence[str], ancestor_K: NDArray[np.int64], leaf_NK: Floats) -> Judged:
    """The ancestor of the answer, and the sum of the probabilities below each class."""
    below_KC = (ancestor_K[:, None] == np.arange(len(names))).astype(np.float32)
    logits_NC = np.log(np.maximum(leaf_NK @ below_KC, np.finfo(np.float32).tiny)).astype(np.float32)
    return Judged("single", names, ancestor_K[judged.target], ancestor_K[judged.predicted], logits_NC, 1.0)
