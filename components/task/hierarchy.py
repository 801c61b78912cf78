"""Hierarchy: each image has one class on every level of a tree, and a leaf as its class.

The network has one logit a class of every level, the coarsest level first.

Letters: N images, B images of a batch, T logits of the network, K classes (leaves), D levels.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.shared.errors import DataError, SettingsError
from components.shared.settings import Settings
from components.task.label_text import PATH_SEPARATOR
from components.task.single_label import ExclusiveTask
from components.task.task import BatchLoss, CoarserLevel, R, Tensor, log_softmax, repeated_name


class Level(Settings):
    """One level of a hierarchy."""

    name: str
    classes: list[str]
    """Paths from the root, such as fruit/apple, in order."""
    parents: list[int]
    """Index of each class's parent in the level above; empty in the coarsest."""


class Hierarchy(ExclusiveTask):
    """A path down a tree: one softmax a level, and the most probable leaf is predicted."""

    title: ClassVar[str] = "hierarchical"

    task: Literal["hierarchy"] = "hierarchy"
    levels: list[Level] = Field(default_factory=list)
    """The coarsest first; the finest holds `classes`, which are whole paths."""

    @classmethod
    def of(cls, labels: Iterable[Sequence[str]], level_names: Sequence[str] = ()) -> Self:
        distinct = sorted({tuple(found) for found in labels})
        if shallow := [found for found in distinct if len(found) != len(level_names)]:
            raise DataError(f"{cls.text_of(shallow[0])}: should have a label for each of {', '.join(level_names)}")
        levels: list[Level] = []
        for depth, name in enumerate(level_names, start=1):
            classes = sorted({cls.text_of(found[:depth]) for found in distinct})
            above = {text: index for index, text in enumerate(levels[-1].classes)} if levels else {}
            parents = [above[text.rpartition(PATH_SEPARATOR)[0]] for text in classes] if levels else []
            levels.append(Level(name=name, classes=classes, parents=parents))
        return cls(classes=levels[-1].classes, levels=levels)

    @classmethod
    def text_of(cls, labels: Sequence[str]) -> str:
        return PATH_SEPARATOR.join(labels)

    @classmethod
    def labels_of(cls, text: str) -> list[str]:
        return text.split(PATH_SEPARATOR)

    @classmethod
    def classes_in(cls, text: str) -> list[str]:
        return [cls.text_of([name.strip() for name in cls.labels_of(text)])]

    @classmethod
    def listed_names(cls, labels: Sequence[str]) -> Sequence[str]:
        return labels[-1:]

    @classmethod
    def vocabularies(cls, labels: Collection[Sequence[str]]) -> list[set[str]]:
        """The names of each level."""
        return [set(level) for level in zip(*labels, strict=True)]

    @classmethod
    def hint(cls, name: str, known: Collection[str]) -> str | None:
        whole = [path for path in known if path.endswith(PATH_SEPARATOR + name)]
        return f"; write the whole path, such as {min(whole)}" if whole else None

    def flaw(self) -> str | None:
        for where, names in (("the list of classes", self.classes), *((one.name, one.classes) for one in self.levels)):
            if repeated := repeated_name(where, names):
                return repeated
        if not self.levels or self.levels[-1].classes != self.classes:
            return f"its {len(self.levels)} levels don't lead to the classes that it predicts"
        for above, level in pairwise(self.levels):
            known = range(len(above.classes))
            if len(level.parents) != len(level.classes) or any(parent not in known for parent in level.parents):
                return f"classes of {level.name} have parents that aren't in {above.name}"
        return None

    @property
    def num_logits(self) -> int:
        return sum(len(level.classes) for level in self.levels)

    def level_slices(self) -> list[slice]:
        """Where each level's logits lie among the T."""
        ends = np.cumsum([0, *(len(level.classes) for level in self.levels)]).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]

    def ancestors_DK(self) -> NDArray[np.int64]:
        """For each level and leaf, the index of the leaf's ancestor in that level."""
        rows = [np.arange(len(self.classes))]
        for level in reversed(self.levels[1:]):
            rows.insert(0, np.array(level.parents, np.int64)[rows[0]])
        return np.stack(rows)

    def coarser_levels(self) -> list[CoarserLevel]:
        above = zip(self.levels[:-1], self.ancestors_DK()[:-1], strict=True)
        return [CoarserLevel(level.name, level.classes, ancestor_K) for level, ancestor_K in above]

    def shared_by(self, in_set_K: NDArray[np.bool_]) -> str:
        """The path down to the finest level on which all of them have one ancestor."""
        for level in reversed(self.coarser_levels()):
            ancestors = np.unique(level.ancestor_K[in_set_K])
            if len(ancestors) == 1:
                return str(level.classes[ancestors[0]])
        return ""

    def over_heads(self, *, softmax: Callable[[slice], R], sigmoid: Callable[[slice], R]) -> list[R]:
        return [softmax(head) for head in self.level_slices()]

    def image_losses(
        self,
        logits_BT: Tensor,
        target: Tensor,
        loss: BatchLoss,
        *,
        level_weights: Sequence[float] | None = None,
        class_weight_K: Tensor | None = None,
    ) -> Tensor:
        """The sum over the levels, by their weights; a class (leaf) weighs its images."""
        loss_B = logits_BT.new_zeros(len(logits_BT))
        weights = level_weights or [1.0] * len(self.levels)
        ancestors_DK = target.new_tensor(self.ancestors_DK())
        for ancestor_K, head, weight in zip(ancestors_DK, self.level_slices(), weights, strict=True):
            loss_B = loss_B + weight * loss.categorical(logits_BT[:, head], ancestor_K[target])
        return loss_B if class_weight_K is None else class_weight_K[target] * loss_B

    def chance_loss(self, level_weights: Sequence[float] | None = None) -> float:
        weights = level_weights or [1.0] * len(self.levels)
        return sum(weight * math.log(len(level.classes)) for weight, level in zip(weights, self.levels, strict=True))

    def check_level_weights(self, level_weights: Sequence[float] | None) -> None:
        if level_weights is not None and len(level_weights) != len(self.levels):
            names = ", ".join(level.name for level in self.levels)
            raise SettingsError(
                f"params.yaml: model.level_weights: has {len(level_weights)} numbers, should have one for each of the "
                f"levels {names}"
            )

    def metric_inputs(self, logits_BT: Tensor) -> Tensor:
        """The log-probability of each leaf's path, as `class_logits` gives it."""
        total_BK = logits_BT.new_zeros(len(logits_BT), len(self.classes))
        for ancestor_K, head in zip(self.ancestors_DK().tolist(), self.level_slices(), strict=True):
            total_BK = total_BK + logits_BT[:, head].log_softmax(dim=1)[:, ancestor_K]
        return total_BK

    def class_logits(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """The sum of the log-probabilities on each leaf's path.

        So every prediction is consistent along the tree, and confidence on coarse levels helps where fine classes are
        alike.
        """
        total_NK = np.zeros((len(logits_NT), len(self.classes)), np.float32)
        for ancestor_K, head in zip(self.ancestors_DK(), self.level_slices(), strict=True):
            total_NK += log_softmax(np.asarray(logits_NT[:, head], np.float32))[:, ancestor_K]
        return total_NK
