"""A model's predictions for some images, stored as a table that every score is computed from.

Letters: N images, T logits of the network, K classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.shared.parquet import write_table
from components.task.task import DEFAULT_RULE, DecisionRule, Task
from components.task.task_types import task_from_record

_TASK, _RULE = "task", "decision_rule"


@dataclass(frozen=True)
class Predictions:
    path_N: list[str]
    sha256_N: list[str]
    target: NDArray[Any]
    """Class indices, int64 [N]; in multi-label tasks truth values, bool [N, K]."""
    logits_NT: NDArray[np.float32]
    task: Task
    rule: DecisionRule = DEFAULT_RULE

    @property
    def classes(self) -> list[str]:
        return self.task.classes

    @cached_property
    def predicted(self) -> NDArray[Any]:
        """The prediction for each image, in the form of the target."""
        return self.task.predictions(self.logits_NT, self.rule)

    @cached_property
    def probabilities_NK(self) -> NDArray[np.float32]:
        return self.task.probabilities(self.logits_NT, temperature=self.rule.temperature)

    @cached_property
    def correct_N(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct; in multi-label tasks, in every label."""
        return same_predictions(self.predicted, self.target)

    @property
    def baseline_accuracy(self) -> float:
        """The accuracy of a model that always predicts the commonest target."""
        counts = np.unique(self.target, axis=0, return_counts=True)[1]
        return float(counts.max(initial=0) / len(self.target))

    @cached_property
    def confidence_N(self) -> NDArray[np.float32]:
        """Probability of each prediction; in multi-label tasks, of its least confident label."""
        return self.task.confidence(self.probabilities_NK, self.predicted)

    @cached_property
    def in_set_NDC(self) -> NDArray[np.bool_]:
        """Whether each option of each decision stands in its prediction set; the rule must make sets."""
        return self.task.prediction_sets(self.probabilities_NK, self.rule)

    @cached_property
    def flagged_N(self) -> NDArray[np.bool_]:
        """Whether each image is flagged as out-of-distribution."""
        return self.rule.flagged(self.task.ood_score(self.logits_NT))


def same_predictions(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether both sides agree on each image [N]; in multi-label tasks, on every label."""
    same_N: NDArray[np.bool_] = np.equal(left, right).reshape(len(left), -1).all(axis=1)
    return same_N


def predictions_at(predictions: Predictions, rows: Sequence[int] | NDArray[np.int64]) -> Predictions:
    """The predictions of some of the images."""
    return replace(
        predictions,
        path_N=[predictions.path_N[row] for row in rows],
        sha256_N=[predictions.sha256_N[row] for row in rows],
        target=predictions.target[rows],
        logits_NT=predictions.logits_NT[rows],
    )


def write_predictions(target: Path, predictions: Predictions) -> None:
    task = predictions.task
    table = pa.table(
        {
            "path": predictions.path_N,
            "sha256": predictions.sha256_N,
            "label": task.names(predictions.target),
            "predicted": task.names(predictions.predicted),
            "target": _column(predictions.target),
            "logits": _column(predictions.logits_NT),
        }
    ).replace_schema_metadata({_TASK: task.model_dump_json(), _RULE: predictions.rule.model_dump_json()})
    write_table(target, table)


def read_predictions(source: Path) -> Predictions:
    table = pq.read_table(source)
    described = {name.decode(): json.loads(text) for name, text in table.schema.metadata.items()}
    return Predictions(
        path_N=table["path"].to_pylist(),
        sha256_N=table["sha256"].to_pylist(),
        target=_array(table["target"]),
        logits_NT=_array(table["logits"]),
        task=task_from_record(_TASK, described[_TASK]),
        rule=DecisionRule.from_section(_RULE, described[_RULE]),
    )


def _column(values: NDArray[Any]) -> Any:
    return pa.array(values) if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])


def _array(column: Any) -> NDArray[Any]:
    flat = column.combine_chunks()
    if not pa.types.is_fixed_size_list(flat.type):
        return np.asarray(flat)
    return np.asarray(flat.flatten()).reshape(len(flat), flat.type.list_size)
