"""The prediction for each image as a flat record, the same in prediction tables and from the scoring server.

    label, probability           predicted class, a|b of several labels, or a/b of a hierarchy, and its probability
    level_NAME, …_probability    hierarchy: ancestor of the predicted class on each coarser level
    top_1, top_1_probability …   most probable classes, if requested
    ood_score                    larger is less like the training data
    out_of_distribution          whether the score is above the model's threshold, if it has one
    ood                          the same, by its earlier name
    answer                       what the model says in words: `cat`, or `not sure: cat or dog`
    sure                         whether one class is left, or of many labels each is decided; never out-of-distribution
    sure_of                      what it is sure of: the label; of several labels those; of a path the start
    prediction_set               classes that the image may have, joined by |, the most probable first
    probability:CLASS            probability of every class, if requested

Letters: B images, T logits, K classes, L classes of a level.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.serving.answer_text import UNLIKE
from components.serving.onnx_classifier import ModelCard
from components.shared.errors import SettingsError, nearest
from components.task.label_text import SET_SEPARATOR
from components.task.task import Task

Record = dict[str, Any]
Columns = dict[str, type[str] | type[float] | type[bool]]
"""Names and types of a record's fields, in order."""

_DECIMALS = 6
"""Further decimals of one model differ between processors."""


@dataclass(frozen=True)
class PredictionOptions:
    """What to return beside the label."""

    top_k: int = 0
    """Number of most probable classes to return."""
    probabilities: bool = False
    """Whether to return the probability of every class."""

    @classmethod
    def from_request(cls, params: Any) -> "PredictionOptions":
        """The `params` of a request, or none; raises SettingsError for unknown names and wrong types."""
        given = {} if params is None else params
        if not isinstance(given, dict):
            raise SettingsError('params should be an object such as {"top_k": 2, "probabilities": true}')
        if unknown := [name for name in given if name not in vars(cls())]:
            hint = nearest(unknown[0], vars(cls())) or f"; there are {' and '.join(vars(cls()))}"
            raise SettingsError(f"params: there is no {unknown[0][:40]}{hint}")
        top_k, probabilities = given.get("top_k", 0), given.get("probabilities", False)
        if isinstance(top_k, bool) or not isinstance(top_k, Integral):
            raise SettingsError(f"top_k is {_quoted(top_k)}, should be a whole number")
        if not isinstance(probabilities, bool | np.bool_):
            raise SettingsError(f"probabilities is {_quoted(probabilities)}, should be true or false")
        return cls(int(top_k), bool(probabilities))

    def check(self, card: ModelCard) -> None:
        """Raises SettingsError if the model has fewer classes than requested."""
        if not 0 <= self.top_k <= len(card.classes):
            raise SettingsError(
                f"top_k is {self.top_k}, should be between 0 and {len(card.classes)}, the model's number of classes"
            )


def _quoted(value: Any) -> str:
    """The value as JSON, as in the request, cut to a length that fits into a message."""
    return json.dumps(value, default=str)[:40]


def prediction_columns(card: ModelCard, options: PredictionOptions) -> Columns:
    """Fields of `prediction_records`."""
    columns: Columns = {"label": str, "probability": float}
    for level in card.labels.coarser_levels():
        columns |= {f"level_{level.name}": str, f"level_{level.name}_probability": float}
    for rank in range(1, options.top_k + 1):
        columns |= {f"top_{rank}": str, f"top_{rank}_probability": float}
    columns["ood_score"] = float
    if card.decision_rule.ood_threshold is not None:
        columns |= {"out_of_distribution": bool, "ood": bool}
    if card.decision_rule.set_thresholds is not None:
        columns |= {"answer": str, "sure": bool, "sure_of": str, "prediction_set": str}
    if options.probabilities:
        columns |= {f"probability:{name}": float for name in card.classes}
    return columns


def prediction_records(logits_BT: NDArray[np.float32], card: ModelCard, options: PredictionOptions) -> list[Record]:
    """A record per image with the fields of `prediction_columns`."""
    task, rule = card.labels, card.decision_rule
    probability_BK = task.probabilities(logits_BT, temperature=rule.temperature)
    predicted = task.predictions(logits_BT, rule)
    label_B, flagged_B = task.names(predicted), rule.flagged(task.ood_score(logits_BT)).tolist()
    columns: list[list[Any]] = [label_B, _rounded(task.confidence(probability_BK, predicted))]
    columns += _coarser_levels(probability_BK, predicted, task)
    for index_B, probability_B in _most_probable(probability_BK, options.top_k):
        columns += [[task.classes[index] for index in index_B], _rounded(probability_B)]
    columns.append(_rounded(task.ood_score(logits_BT)))
    if rule.ood_threshold is not None:
        columns += [flagged_B, flagged_B]
    if rule.set_thresholds is not None:
        columns += _answers(probability_BK, label_B, flagged_B, card)
    if options.probabilities:
        columns += [_rounded(probability_B) for probability_B in probability_BK.T]
    names = list(prediction_columns(card, options))
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _answers(
    probability_BK: NDArray[np.float32], label_B: list[str], flagged_B: list[bool], card: ModelCard
) -> Iterator[list[Any]]:
    """In words, whether and of what it is sure, and the classes of the prediction set."""
    task = card.labels
    in_set_BDC = task.prediction_sets(probability_BK, card.decision_rule)
    answer_B = [task.answer(*of_image) for of_image in zip(in_set_BDC, probability_BK, strict=True)]
    said = zip(answer_B, label_B, flagged_B, strict=True)
    yield [_unlike(label) if flagged else answer.text for answer, label, flagged in said]
    yield [answer.sure and not flagged for answer, flagged in zip(answer_B, flagged_B, strict=True)]
    yield ["" if flagged else answer.certain for answer, flagged in zip(answer_B, flagged_B, strict=True)]
    yield [SET_SEPARATOR.join(answer.possible) for answer in answer_B]


def _unlike(label: str) -> str:
    return f"{UNLIKE}, perhaps {label.replace(SET_SEPARATOR, ' and ')}" if label else UNLIKE


def _coarser_levels(probability_BK: NDArray[np.float32], pred_B: NDArray[Any], task: Task) -> Iterator[list[Any]]:
    """Names and probabilities of the classes' ancestors; an ancestor has the probability of all classes below it."""
    for level in task.coarser_levels():
        is_below_KL = level.ancestor_K[:, None] == np.arange(len(level.classes))
        ancestor_B = level.ancestor_K[pred_B]
        probability_BL = probability_BK @ is_below_KL.astype(np.float32)
        yield [level.classes[index] for index in ancestor_B]
        yield _rounded(np.take_along_axis(probability_BL, ancestor_B[:, None], axis=1)[:, 0])


def _most_probable(
    probability_BK: NDArray[np.float32], top_k: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Index and probability at each rank; of equally probable classes, the first comes first."""
    order_BK = np.argsort(-probability_BK, axis=1, kind="stable")[:, :top_k]
    for index_B in order_BK.T:
        yield index_B, np.take_along_axis(probability_BK, index_B[:, None], axis=1)[:, 0]


def _rounded(values_B: NDArray[np.floating[Any]]) -> list[float]:
    return [round(value, _DECIMALS) for value in values_B.astype(np.float64).tolist()]
