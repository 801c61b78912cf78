"""The interface of a label type: what a model predicts, how it is trained, and how its logits become predictions.

Training, evaluation and serving read logits through it, so that all three read them alike. Nothing here imports torch:
data stages and serving need numpy alone. Methods for training call methods of the tensors that they are given.

Letters: N images, B images of a batch, T logits of the network, K classes.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.shared.errors import SettingsError
from components.shared.settings import Settings

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

_SHOWN_NAMES = 4
_NAMED = 3
"""Classes that an answer names."""
R = TypeVar("R")
Tensor = Any
"""A torch tensor. Data stages and serving read this module without torch."""


class DecisionRule(Settings):
    """How logits become predictions; fitted on validation for the very file that ships, and written into it."""

    temperature: float = Field(default=1.0, gt=0)
    """Divisor of the class logits; above 1 the model becomes less confident."""
    thresholds: list[float] | None = None
    """Multi-label only: the least probability at which each label is predicted, in order of the classes; null: 0.5."""
    ood_threshold: float | None = None
    """OOD score above which an image is flagged as out-of-distribution; null flags none."""
    ood_keep: float | None = None
    """Fraction of images like the validation images that the threshold lets pass."""
    coverage: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of decisions whose truth is to stand in the prediction set; null makes no sets."""
    set_thresholds: list[list[float]] | None = None
    """For each decision (Task.decisions) the least probability at which each option stands in the prediction set."""

    def flagged(self, ood_score_N: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each image is flagged as out-of-distribution, by its score."""
        limit = np.inf if self.ood_threshold is None else self.ood_threshold
        flagged_N: NDArray[np.bool_] = ood_score_N > limit
        return flagged_N


DEFAULT_RULE = DecisionRule()
"""Temperature 1, and thresholds of 0.5 for multi-label tasks."""


@dataclass(frozen=True)
class Answer:
    """What a model says of one image, as far as it is sure."""

    text: str
    """In words, such as `shirt`, or `not sure: shirt or t-shirt`."""
    certain: str
    """What it is sure of: the label; of several labels those; of a path the start; empty where that is nothing."""
    possible: list[str]
    """Classes that the image may have, the most probable first."""
    sure: bool
    """Whether nothing is left open."""


@dataclass(frozen=True)
class CoarserLevel:
    """A level above the classes, such as `fruit` above `fruit/apple`."""

    name: str
    classes: Sequence[str]
    ancestor_K: NDArray[np.int64]
    """Index of each class's ancestor in this level."""


class BatchLoss(Protocol):
    """The loss function that the settings choose, in nats; training provides it."""

    def categorical(self, logits_BK: Tensor, target_B: Tensor) -> Tensor:
        """Loss of each image [B] over classes that exclude each other."""
        ...

    def binary(self, logits_BK: Tensor, truth_BK: Tensor, class_weight_K: Tensor | None = None) -> Tensor:
        """Loss of each label on its own [B, K]."""
        ...


class Task(Settings):
    """The classes of a data set and everything that depends on the type of its labels."""

    exclusive: ClassVar[bool] = True
    """True: each image has exactly one class, and targets and predictions are class indices [N].
    False: any number of classes, and both are truth values [N, K]."""
    may_lack_labels: ClassVar[bool] = False
    """Whether an image without any label is an example like others: of none of the classes."""
    title: ClassVar[str]
    """For sentences, such as `single-label`."""

    task: str
    """Name of the label type, as records store it."""
    classes: list[str]
    """What is predicted, in the order of the class logits."""

    # Labels as text

    @classmethod
    @abstractmethod
    def of(cls, labels: Iterable[Sequence[str]], level_names: Sequence[str] = ()) -> Self:
        """The task that the labels of some images span; each image has a sequence of labels."""

    @classmethod
    @abstractmethod
    def text_of(cls, labels: Sequence[str]) -> str:
        """All labels of an image as one text, such as `cat`, `cat|dog` or `Fruit/Apple/Gala`."""

    @classmethod
    @abstractmethod
    def labels_of(cls, text: str) -> list[str]:
        """The inverse of `text_of`."""

    @classmethod
    def classes_of(cls, labels: Sequence[str]) -> list[str]:
        """The classes that an image with these labels counts for."""
        return [cls.text_of(labels)]

    @classmethod
    def classes_in(cls, text: str) -> list[str]:
        """The classes that a text written by a person names."""
        return [text]

    @classmethod
    def listed_names(cls, labels: Sequence[str]) -> Sequence[str]:
        """Which of an image's labels ingest.classes lists."""
        return labels

    @classmethod
    def vocabularies(cls, labels: Collection[Sequence[str]]) -> list[set[str]]:
        """The names in the labels of some images, one set for each role that a name can have."""
        return [{name for found in labels for name in found}]

    @classmethod
    def hint(cls, name: str, known: Collection[str]) -> str | None:
        """What to write instead of an unknown class, where this label type has advice of its own."""
        return None

    def names(self, chosen: NDArray[Any], *, joined: bool = True) -> list[Any]:
        """Label texts of targets or predictions."""
        return [self.classes[index] for index in chosen]

    def flaw(self) -> str | None:
        """How a task read from a record contradicts itself, as a clause; None where it doesn't."""
        return repeated_name("the list of classes", self.classes)

    def difference_from(self, other: "Task") -> str:
        """For a sentence: what this model predicts, what the images have, and some of the names that differ."""
        only = sorted(set(self.classes) ^ set(other.classes))
        names = f" (not in both: {', '.join(only[:_SHOWN_NAMES])})" if only else ""
        return (
            f"predicts {len(self.classes)} {self.title} classes, and the images have {len(other.classes)} "
            f"{other.title} ones{names}"
        )

    # Levels and logits

    @property
    def num_logits(self) -> int:
        return len(self.classes)

    def coarser_levels(self) -> list[CoarserLevel]:
        """The levels above the classes, the coarsest first; empty for tasks without levels."""
        return []

    @abstractmethod
    def over_heads(self, *, softmax: Callable[[slice], R], sigmoid: Callable[[slice], R]) -> list[R]:
        """Calls `softmax` or `sigmoid` with the logits of each head, by how it is read; returns what they return."""

    # Training

    @abstractmethod
    def targets(self, labels: Iterable[Sequence[str]]) -> NDArray[Any]:
        """What the loss and the scores compare with. Raises DataError for a label of no class."""

    @abstractmethod
    def image_losses(
        self,
        logits_BT: Tensor,
        target: Tensor,
        loss: BatchLoss,
        *,
        level_weights: Sequence[float] | None = None,
        class_weight_K: Tensor | None = None,
    ) -> Tensor:
        """Loss of each image [B], in nats."""

    @abstractmethod
    def chance_loss(self, level_weights: Sequence[float] | None = None) -> float:
        """Loss of a model that knows nothing, in nats."""

    def check_level_weights(self, level_weights: Sequence[float] | None) -> None:
        """Raises SettingsError where model.level_weights doesn't fit the levels of the labels."""
        if level_weights is not None:
            raise SettingsError(
                "params.yaml: model.level_weights: is set, but the labels of these images have no levels; "
                "set it to null"
            )

    @abstractmethod
    def balancing_weights(self, target: NDArray[Any]) -> NDArray[np.float32]:
        """Weight of each class in the loss [K] that makes rare and frequent classes count alike."""

    @abstractmethod
    def sampling_weights(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """Probability of each image [N] under balanced sampling, where classes come equally often; they sum to 1."""

    @abstractmethod
    def validation_metrics(self) -> "dict[str, Metric | MetricCollection]":
        """`accuracy` and `macro_f1` of what `metric_inputs` makes of the logits."""

    @abstractmethod
    def metric_inputs(self, logits_BT: Tensor) -> Tensor:
        """What the metrics of `validation_metrics` take."""

    # Predictions

    @abstractmethod
    def class_logits(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Logits of the K classes."""

    @abstractmethod
    def probabilities(self, logits_NT: NDArray[np.floating[Any]], *, temperature: float = 1.0) -> NDArray[np.float32]:
        """Probabilities of the K classes, in [0, 1]; they sum to 1 where classes exclude each other."""

    @abstractmethod
    def predictions(self, logits_NT: NDArray[np.floating[Any]], rule: DecisionRule = DEFAULT_RULE) -> NDArray[Any]:
        """The prediction for each image, in the form of `targets`."""

    @abstractmethod
    def confidence(self, probability_NK: NDArray[np.float32], predicted: NDArray[Any]) -> NDArray[np.float32]:
        """Probability of each image's prediction [N]."""

    @abstractmethod
    def outcomes(
        self, probability_NK: NDArray[np.float32], predicted: NDArray[Any], target: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Each probability that calibration looks at, beside whether what it stands for is true."""

    @abstractmethod
    def ood_score(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Out-of-distribution score of each image [N]; larger is less like the training data.

        The free energy of the logits, -log Σ exp (Liu et al. 2020, "Energy-based Out-of-distribution Detection"). The
        temperature plays no part: calibration would move the threshold that belongs to the score.
        """

    # Prediction sets

    @abstractmethod
    def decisions(self, probability_NK: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities [N, D, C] of the C options of each of the D decisions that a prediction makes."""

    @abstractmethod
    def decided(self, chosen: NDArray[Any]) -> NDArray[np.int64]:
        """The option [N, D] that targets or predictions have chosen in each decision."""

    def prediction_sets(self, probability_NK: NDArray[np.float32], rule: DecisionRule) -> NDArray[np.bool_]:
        """Whether each option of each decision stands in its prediction set [N, D, C]."""
        in_set_NDC: NDArray[np.bool_] = self.decisions(probability_NK) >= np.array(rule.set_thresholds)
        return in_set_NDC

    @abstractmethod
    def answer(self, in_set_DC: NDArray[np.bool_], probability_K: NDArray[np.float32]) -> Answer:
        """The answer that the prediction sets of one image leave."""

    # Fitting the decision rule and searching label errors

    @abstractmethod
    def smoothed_log_loss(self, logits_RK: NDArray[np.float64], target: NDArray[Any], smoothing: float) -> float:
        """Log loss summed over images, in nats, with a fraction of the truth spread over all classes."""

    def best_thresholds(self, probability_NK: NDArray[np.float32], target: NDArray[Any]) -> list[float] | None:
        """Thresholds with the highest F1 of each label; None where predictions need none."""
        return None

    @abstractmethod
    def choices(
        self, probability_NK: NDArray[np.float32], target: NDArray[Any]
    ) -> Iterable[tuple[Sequence[str], NDArray[np.float64], NDArray[np.intp]]]:
        """Each choice that a label makes: names of the options C, their probabilities [N, C], the one given [N]."""


def repeated_name(where: str, names: Sequence[str]) -> str | None:
    """A clause about a name that stands more than once in a list; None where there is none."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    return f"{where} holds {repeated[0]} more than once" if repeated else None


def either(names: Sequence[str], *, last: str = "or") -> str:
    """For a sentence: `a`, `a or b`, `a, b or c`, and of many names the first ones."""
    shown = list(names[:_NAMED])
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    *first, final = shown + more
    return f"{', '.join(first)} {last} {final}" if first else final


def log_softmax(logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
    result: NDArray[np.float32] = shifted_NK - np.log(np.exp(shifted_NK).sum(axis=1, keepdims=True))
    return result


def log_sum_exp(logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    largest_N = logits_NK.max(axis=1)
    result: NDArray[np.float32] = largest_N + np.log(np.exp(logits_NK - largest_N[:, None]).sum(axis=1))
    return result
