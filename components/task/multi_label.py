"""Multi-label: each image has any number of labels, each predicted on its own.

Letters: N images, B images of a batch, R images of a block, T logits of the network, K classes (labels).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from components.shared.errors import DataError
from components.task.label_text import SET_SEPARATOR
from components.task.task import DEFAULT_RULE, Answer, BatchLoss, DecisionRule, R, Task, Tensor, either

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

LEAST_POSITIVES = 10
"""A label with fewer images keeps the threshold 0.5: the best one for so few says little about the next images."""


class MultiLabel(Task):
    """Any number of labels an image: a sigmoid and a threshold for each."""

    exclusive: ClassVar[bool] = False
    may_lack_labels: ClassVar[bool] = True
    title: ClassVar[str] = "multi-label"

    task: Literal["multi_label"] = "multi_label"

    @classmethod
    def of(cls, labels: Iterable[Sequence[str]], level_names: Sequence[str] = ()) -> Self:
        return cls(classes=sorted({name for found in labels for name in found}))

    @classmethod
    def text_of(cls, labels: Sequence[str]) -> str:
        return SET_SEPARATOR.join(labels)

    @classmethod
    def labels_of(cls, text: str) -> list[str]:
        return text.split(SET_SEPARATOR) if text else []

    @classmethod
    def classes_of(cls, labels: Sequence[str]) -> list[str]:
        return list(labels)

    @classmethod
    def classes_in(cls, text: str) -> list[str]:
        return sorted({name.strip() for name in cls.labels_of(text)})

    def names(self, chosen: NDArray[Any], *, joined: bool = True) -> list[Any]:
        """Label texts joined by `|`, or lists of labels."""
        sets = [[self.classes[index] for index in np.flatnonzero(row)] for row in chosen]
        return [self.text_of(names) for names in sets] if joined else sets

    def over_heads(self, *, softmax: Callable[[slice], R], sigmoid: Callable[[slice], R]) -> list[R]:
        return [sigmoid(slice(None))]

    def targets(self, labels: Iterable[Sequence[str]]) -> NDArray[Any]:
        """Truth values [N, K]."""
        index_of = {name: index for index, name in enumerate(self.classes)}
        try:
            found = [[index_of[name] for name in names] for names in labels]
        except KeyError as unknown:
            raise DataError(f"{unknown.args[0]} is none of the {len(self.classes)} classes") from None
        target_NK = np.zeros((len(found), len(self.classes)), np.bool_)
        for row, indices in enumerate(found):
            target_NK[row, indices] = True
        return target_NK

    def image_losses(
        self,
        logits_BT: Tensor,
        target: Tensor,
        loss: BatchLoss,
        *,
        level_weights: Sequence[float] | None = None,
        class_weight_K: Tensor | None = None,
    ) -> Tensor:
        """The mean over the labels; a class weighs the images that carry it."""
        return loss.binary(logits_BT, target, class_weight_K).mean(dim=1)

    def chance_loss(self, level_weights: Sequence[float] | None = None) -> float:
        return math.log(2)

    def balancing_weights(self, target: NDArray[Any]) -> NDArray[np.float32]:
        """Images without the label over those with it; a label of no images weighs 1."""
        having_K = target.sum(axis=0)
        return np.where(having_K > 0, (len(target) - having_K) / np.maximum(having_K, 1), 1).astype(np.float32)

    def sampling_weights(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """The mean of what an image's labels ask for; images without any label count as a class of their own."""
        with_none = ~target.any(axis=1)
        labels_NK = np.column_stack([target, with_none])
        weight_N = (labels_NK / np.maximum(labels_NK.sum(axis=0), 1)).sum(axis=1) / labels_NK.sum(axis=1)
        probability_N: NDArray[np.float64] = weight_N / weight_N.sum()
        return probability_N

    def validation_metrics(self) -> "dict[str, Metric | MetricCollection]":
        """`accuracy` is the fraction of images with every label correct."""
        from torchmetrics.classification import MultilabelExactMatch, MultilabelF1Score

        num_labels = len(self.classes)
        return {
            "accuracy": MultilabelExactMatch(num_labels),
            "macro_f1": MultilabelF1Score(num_labels, average="macro"),
        }

    def metric_inputs(self, logits_BT: Tensor) -> Tensor:
        """Probabilities, for the metrics guess whether they are given logits."""
        return logits_BT.sigmoid()

    def class_logits(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return np.asarray(logits_NT, np.float32)

    def probabilities(self, logits_NT: NDArray[np.floating[Any]], *, temperature: float = 1.0) -> NDArray[np.float32]:
        """Each label's own; they don't sum to 1."""
        class_logits_NK = self.class_logits(logits_NT) / np.float32(temperature)
        # Of the two forms of the sigmoid, the one that does not overflow.
        weaker_NK = np.exp(-np.abs(class_logits_NK))
        probability_NK: NDArray[np.float32] = np.where(class_logits_NK >= 0, 1, weaker_NK) / (1 + weaker_NK)
        return probability_NK

    def predictions(self, logits_NT: NDArray[np.floating[Any]], rule: DecisionRule = DEFAULT_RULE) -> NDArray[Any]:
        """Truth values [N, K]; a row may be all false."""
        threshold_K = np.array(rule.thresholds or [0.5] * len(self.classes))
        pred_NK: NDArray[np.bool_] = self.probabilities(logits_NT, temperature=rule.temperature) >= threshold_K
        return pred_NK

    def confidence(self, probability_NK: NDArray[np.float32], predicted: NDArray[Any]) -> NDArray[np.float32]:
        """Probability of the label that is predicted, or left out, with the least confidence."""
        least_N: NDArray[np.float32] = np.where(predicted, probability_NK, 1 - probability_NK).min(axis=1)
        return least_N

    def outcomes(
        self, probability_NK: NDArray[np.float32], predicted: NDArray[Any], target: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probability of every label and whether the image has it [N × K]."""
        return probability_NK.ravel(), target.ravel()

    def ood_score(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The sum over the labels, each against its own absence (Wang et al. 2021, "Can multi-label classification
        networks know what they don't know?")."""
        logits_NT = np.asarray(logits_NT, np.float32)
        energy_N: NDArray[np.float32] = -np.logaddexp(np.float32(0), logits_NT).sum(axis=1)
        return energy_N

    def decisions(self, probability_NK: NDArray[np.float32]) -> NDArray[np.float32]:
        """For each label, whether the image lacks or has it."""
        return np.stack([1 - probability_NK, probability_NK], axis=2)

    def decided(self, chosen: NDArray[Any]) -> NDArray[np.int64]:
        return chosen.astype(np.int64)

    def answer(self, in_set_DC: NDArray[np.bool_], probability_K: NDArray[np.float32]) -> Answer:
        """Labels that the image has, and those of which it may have each or not."""
        order_K = np.argsort(-probability_K, kind="stable")
        open_K = in_set_DC[:, 0] == in_set_DC[:, 1]
        certain_K = in_set_DC[:, 1] & ~open_K
        doubtful = [self.classes[index] for index in order_K[open_K[order_K]]]
        possible = [self.classes[index] for index in order_K[(open_K | certain_K)[order_K]]]
        certain = self.names(certain_K[None], joined=False)[0]
        clauses = [", ".join(certain)] if certain else [] if doubtful else ["none of the labels"]
        clauses += [f"not sure about {either(doubtful, last='and')}"] if doubtful else []
        return Answer("; ".join(clauses), self.text_of(certain), possible, sure=not doubtful)

    def smoothed_log_loss(self, logits_RK: NDArray[np.float64], target: NDArray[Any], smoothing: float) -> float:
        """The mean over the labels."""
        wanted_RK = (1 - smoothing) * target + smoothing / 2
        return float((np.logaddexp(0, logits_RK) - wanted_RK * logits_RK).sum() / len(self.classes))

    def best_thresholds(self, probability_NK: NDArray[np.float32], target: NDArray[Any]) -> list[float]:
        columns = zip(probability_NK.T, target.T, strict=True)
        return [best_threshold(probability_N, has_N) for probability_N, has_N in columns]

    def choices(
        self, probability_NK: NDArray[np.float32], target: NDArray[Any]
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float64], NDArray[np.intp]]]:
        """For each label that some images have and others lack, whether an image has it."""
        for name, probability_N, given_N in zip(self.classes, probability_NK.T, target.T, strict=True):
            if given_N.any() and not given_N.all():
                both_N2 = np.stack([1 - probability_N, probability_N], axis=1).astype(np.float64)
                yield (f"without {name}", name), both_N2, given_N.astype(np.intp)


def best_threshold(probability_N: NDArray[np.float32], has_N: NDArray[np.bool_]) -> float:
    """The threshold with the highest F1; of several the one nearest to 0.5, which is kept where it is as good."""
    positives = int(has_N.sum())
    if positives < LEAST_POSITIVES:
        return 0.5
    order = np.argsort(-probability_N, kind="stable")
    above_N = probability_N[order].astype(np.float64)
    below_N = np.append(above_N[1:], 0.0)
    # Predicted for the first k images, the label is correct so often; F1 = 2 TP / (predicted + positives).
    f1_N = 2 * np.cumsum(has_N[order]) / (np.arange(1, len(order) + 1) + positives)
    between_N = (above_N + below_N) / 2
    threshold_N = np.where((below_N < 0.5) & (above_N >= 0.5), 0.5, between_N)
    # Images of equal probability stand on one side.
    possible = np.flatnonzero(above_N > below_N)
    if not len(possible):
        return 0.5
    best = possible[f1_N[possible] >= f1_N[possible].max() - 1e-12]
    return float(threshold_N[best[np.abs(threshold_N[best] - 0.5).argmin()]])
