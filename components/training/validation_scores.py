"""Scores on validation while training, for each kind of labels.

Letters: B images of a batch, T logits, K classes.
"""

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelExactMatch,
    MultilabelF1Score,
)

from components.models.heads import class_logits
from components.task.label_space import LabelSpace


def validation_scores(space: LabelSpace) -> MetricCollection:
    """`accuracy` (of sets: all labels right) and `macro_f1`, of what `for_scores` makes of the logits."""
    count = len(space.classes)
    if space.kind == "multi":
        return _named(MultilabelExactMatch(count), MultilabelF1Score(count, average="macro"))
    return _named(MulticlassAccuracy(count, average="micro"), MulticlassF1Score(count, average="macro"))


def _named(accuracy: Metric, macro_f1: Metric) -> MetricCollection:
    return MetricCollection({"accuracy": accuracy, "macro_f1": macro_f1}, prefix="val_")


def for_scores(logits_BT: Tensor, space: LabelSpace) -> Tensor:
    """Logits of the K answers; of sets probabilities, for the metrics guess which of the two they are given."""
    return logits_BT.sigmoid() if space.kind == "multi" else class_logits(logits_BT, space)
