"""Single label: each image has exactly one class.

Letters: N images, B images of a batch, R images of a block, T logits of the network, K classes.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from components.shared.errors import DataError
from components.task.task import (
    DEFAULT_RULE,
    Answer,
    BatchLoss,
    DecisionRule,
    R,
    Task,
    Tensor,
    either,
    log_softmax,
    log_sum_exp,
)

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection


class ExclusiveTask(Task):
    """What tasks share whose classes exclude each other: the most probable class is predicted."""

    def targets(self, labels: Iterable[Sequence[str]]) -> NDArray[Any]:
        """Class indices [N]."""
        index_of = {name: index for index, name in enumerate(self.classes)}
        try:
            return np.array([index_of[self.text_of(names)] for names in labels], np.int64)
        except KeyError as unknown:
            raise DataError(f"{unknown.args[0]} is none of the {len(self.classes)} classes") from None

    def image_losses(
        self,
        logits_BT: Tensor,
        target: Tensor,
        loss: BatchLoss,
        *,
        level_weights: Sequence[float] | None = None,
        class_weight_K: Tensor | None = None,
    ) -> Tensor:
        """Loss of the softmax; a class weighs its images."""
        loss_B = loss.categorical(logits_BT, target)
        return loss_B if class_weight_K is None else class_weight_K[target] * loss_B

    def chance_loss(self, level_weights: Sequence[float] | None = None) -> float:
        return math.log(len(self.classes))

    def balancing_weights(self, target: NDArray[Any]) -> NDArray[np.float32]:
        """N / (K n) for a class of n images, so that the mean over the images is 1; a class of no images weighs 1."""
        count_K = np.bincount(target, minlength=len(self.classes))
        return np.where(count_K > 0, len(target) / (len(self.classes) * np.maximum(count_K, 1)), 1).astype(np.float32)

    def sampling_weights(self, target: NDArray[Any]) -> NDArray[np.float64]:
        weight_N = 1.0 / np.bincount(target)[target]
        probability_N: NDArray[np.float64] = weight_N / weight_N.sum()
        return probability_N

    def validation_metrics(self) -> "dict[str, Metric | MetricCollection]":
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        num_classes = len(self.classes)
        return {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
        }

    def metric_inputs(self, logits_BT: Tensor) -> Tensor:
        return logits_BT

    def class_logits(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return np.asarray(logits_NT, np.float32)

    def probabilities(self, logits_NT: NDArray[np.floating[Any]], *, temperature: float = 1.0) -> NDArray[np.float32]:
        probability_NK: NDArray[np.float32] = np.exp(
            log_softmax(self.class_logits(logits_NT) / np.float32(temperature))
        )
        return probability_NK

    def predictions(self, logits_NT: NDArray[np.floating[Any]], rule: DecisionRule = DEFAULT_RULE) -> NDArray[Any]:
        """Index of the most probable class [N]."""
        index_N: NDArray[np.int64] = self.class_logits(logits_NT).argmax(axis=1)
        return index_N

    def confidence(self, probability_NK: NDArray[np.float32], predicted: NDArray[Any]) -> NDArray[np.float32]:
        confidence_N: NDArray[np.float32] = np.take_along_axis(probability_NK, predicted[:, None], axis=1)[:, 0]
        return confidence_N

    def outcomes(
        self, probability_NK: NDArray[np.float32], predicted: NDArray[Any], target: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Confidence of each prediction and whether it is correct [N]."""
        return self.confidence(probability_NK, predicted), predicted == target

    def ood_score(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The free energy of the logits (Task.ood_score), summed over the levels of a hierarchy."""
        logits_NT = np.asarray(logits_NT, np.float32)

        def log_sum(head: slice) -> NDArray[np.float32]:
            return log_sum_exp(logits_NT[:, head])

        energy_N: NDArray[np.float32] = -np.stack(self.over_heads(softmax=log_sum, sigmoid=log_sum)).sum(axis=0)
        return energy_N

    def decisions(self, probability_NK: NDArray[np.float32]) -> NDArray[np.float32]:
        """One decision among the classes."""
        return probability_NK[:, None, :]

    def decided(self, chosen: NDArray[Any]) -> NDArray[np.int64]:
        return chosen[:, None]

    def answer(self, in_set_DC: NDArray[np.bool_], probability_K: NDArray[np.float32]) -> Answer:
        order_K = np.argsort(-probability_K, kind="stable")
        possible = [self.classes[index] for index in order_K[in_set_DC[0, order_K]]]
        if len(possible) == 1:
            return Answer(possible[0], possible[0], possible, sure=True)
        if not possible:
            return Answer(f"not sure, perhaps {self.classes[order_K[0]]}", "", possible, sure=False)
        all_of_many = len(possible) == len(self.classes) > 2
        doubt = f"not sure: {f'any of the {len(possible)} classes' if all_of_many else either(possible)}"
        certain = self.shared_by(in_set_DC[0])
        return Answer(f"{certain}, {doubt}" if certain else doubt, certain, possible, sure=False)

    def shared_by(self, in_set_K: NDArray[np.bool_]) -> str:
        """What all classes of a set have in common; empty where that is nothing."""
        return ""

    def smoothed_log_loss(self, logits_RK: NDArray[np.float64], target: NDArray[Any], smoothing: float) -> float:
        largest_R = logits_RK.max(axis=1)
        normalizer_R = largest_R + np.log(np.exp(logits_RK - largest_R[:, None]).sum(axis=1))
        chosen_R = logits_RK[np.arange(len(logits_RK)), target]
        return float((normalizer_R - (1 - smoothing) * chosen_R - smoothing * logits_RK.mean(axis=1)).sum())

    def choices(
        self, probability_NK: NDArray[np.float32], target: NDArray[Any]
    ) -> Iterator[tuple[Sequence[str], NDArray[np.float64], NDArray[np.intp]]]:
        """One choice, among the classes that the images have."""
        present_C, given_N = np.unique(target, return_inverse=True)
        yield [self.classes[index] for index in present_C], probability_NK[:, present_C].astype(np.float64), given_N


class SingleLabel(ExclusiveTask):
    """One class an image, by a softmax over the classes."""

    title: ClassVar[str] = "single-label"

    task: Literal["single_label"] = "single_label"

    @classmethod
    def of(cls, labels: Iterable[Sequence[str]], level_names: Sequence[str] = ()) -> Self:
        return cls(classes=sorted({name for found in labels for name in found}))

    @classmethod
    def text_of(cls, labels: Sequence[str]) -> str:
        return "".join(labels)

    @classmethod
    def labels_of(cls, text: str) -> list[str]:
        return [text]

    def over_heads(self, *, softmax: Callable[[slice], R], sigmoid: Callable[[slice], R]) -> list[R]:
        return [softmax(slice(None))]
