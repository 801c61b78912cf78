"""What is said of each image, as one flat record: the same in tables of predictions and from the scoring server.

    label, probability           what is said: a class, a|set, or a/path, and how surely
    level_NAME, …_probability    of a hierarchy: the answer's ancestor on each coarser level
    top_1, top_1_probability …   the most probable classes, where asked for
    unlike_score                 larger is less like the training data
    unlike                       whether that is more than the model's limit, where it has one
    probability:CLASS            of every class, where asked for

Letters: B images, T logits, K classes, L classes of a level.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.serving.onnx_classifier import ModelCard
from components.shared.errors import SettingsError, nearest
from components.task.task import Task

Record = dict[str, Any]
Columns = dict[str, type[str] | type[float] | type[bool]]
"""Names and types of a record's fields, in order."""

_DIGITS = 6
"""Beyond them, the same model answers differently on another processor."""


@dataclass(frozen=True)
class AnswerOptions:
    """What is asked for beyond the label."""

    top_k: int = 0
    """So many of the most probable classes."""
    probabilities: bool = False
    """That of every class."""

    @classmethod
    def of(cls, params: Any) -> "AnswerOptions":
        """As a request asks for them, or doesn't; raises SettingsError for other names and other kinds of values."""
        asked = {} if params is None else params
        if not isinstance(asked, dict):
            raise SettingsError('params should be an object such as {"top_k": 2, "probabilities": true}')
        if unknown := [name for name in asked if name not in vars(cls())]:
            hint = nearest(unknown[0], vars(cls())) or f"; there are {' and '.join(vars(cls()))}"
            raise SettingsError(f"params: there is no {unknown[0][:40]}{hint}")
        top_k, probabilities = asked.get("top_k", 0), asked.get("probabilities", False)
        if isinstance(top_k, bool) or not isinstance(top_k, Integral):
            raise SettingsError(f"top_k is {_shown(top_k)}, should be a whole number")
        if not isinstance(probabilities, bool | np.bool_):
            raise SettingsError(f"probabilities is {_shown(probabilities)}, should be true or false")
        return cls(int(top_k), bool(probabilities))

    def check(self, card: ModelCard) -> None:
        """Raises SettingsError where the model has not so many classes."""
        if not 0 <= self.top_k <= len(card.classes):
            raise SettingsError(
                f"top_k is {self.top_k}, should be between 0 and {len(card.classes)}, the model's classes"
            )


def _shown(value: Any) -> str:
    """As the request has it, as far as a sentence bears."""
    return json.dumps(value, default=str)[:40]


def answer_columns(card: ModelCard, options: AnswerOptions) -> Columns:
    """What the records of `answers_of` hold."""
    columns: Columns = {"label": str, "probability": float}
    for level in card.labels.coarser_levels():
        columns |= {f"level_{level.name}": str, f"level_{level.name}_probability": float}
    for place in range(1, options.top_k + 1):
        columns |= {f"top_{place}": str, f"top_{place}_probability": float}
    columns["ood_score"] = float
    if card.answers.ood_threshold is not None:
        columns["ood"] = bool
    if options.probabilities:
        columns |= {f"probability:{name}": float for name in card.classes}
    return columns


def answers_of(logits_BT: NDArray[np.float32], card: ModelCard, options: AnswerOptions) -> list[Record]:
    """A record an image, with the fields of `answer_columns`."""
    task, rule = card.labels, card.answers
    probability_BK = task.probabilities(logits_BT, temperature=rule.temperature)
    said = task.predictions(logits_BT, rule)
    columns: list[list[Any]] = [task.names(said), _numbers(task.confidence(probability_BK, said))]
    columns += _levels(probability_BK, said, task)
    for classes_B, sure_B in _most_probable(probability_BK, options.top_k):
        columns += [[task.classes[index] for index in classes_B], _numbers(sure_B)]
    ood_B = task.ood_score(logits_BT)
    columns.append(_numbers(ood_B))
    if rule.ood_threshold is not None:
        columns.append((ood_B > rule.ood_threshold).tolist())
    if options.probabilities:
        columns += [_numbers(probability_B) for probability_B in probability_BK.T]
    names = list(answer_columns(card, options))
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _levels(probability_BK: NDArray[np.float32], pred_B: NDArray[Any], task: Task) -> Iterator[list[Any]]:
    """Each coarser class has the probability of all leaves below it."""
    for level in task.coarser_levels():
        below_KL = level.ancestor_K[:, None] == np.arange(len(level.classes))
        chosen_B = level.ancestor_K[pred_B]
        share_B = np.take_along_axis(probability_BK @ below_KL.astype(np.float32), chosen_B[:, None], axis=1)[:, 0]
        yield [level.classes[index] for index in chosen_B]
        yield _numbers(share_B)


def _most_probable(
    probability_BK: NDArray[np.float32], top_k: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Of equally probable classes the first comes first."""
    order_BK = np.argsort(-probability_BK, axis=1, kind="stable")[:, :top_k]
    for index_B in order_BK.T:
        yield index_B, np.take_along_axis(probability_BK, index_B[:, None], axis=1)[:, 0]


def _numbers(values_B: NDArray[np.floating[Any]]) -> list[float]:
    return [round(value, _DIGITS) for value in values_B.astype(np.float64).tolist()]
