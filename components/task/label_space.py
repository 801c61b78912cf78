"""What a model may answer: one class, a set of labels, or a path down a tree; and how its logits are read.

Needs numpy alone, for training, evaluation and serving read logits the same way.

Letters: N images, T logits of the network, K classes, D levels of a hierarchy.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.shared.errors import DataError
from components.shared.settings import Settings

LabelKind = Literal["single", "multi", "hierarchy"]
PATH_SEPARATOR = "/"
SET_SEPARATOR = "|"
_SHOWN_NAMES = 4


class Level(Settings):
    """One level of a hierarchy."""

    name: str
    classes: list[str]
    """Paths from the root, such as fruit/apple, in order."""
    parents: list[int]
    """Position of each class's parent in the level above; empty in the coarsest."""


class AnswerRule(Settings):
    """How logits become an answer; fitted on validation for the very file that ships, and written into it."""

    temperature: float = Field(default=1.0, gt=0)
    """What the logits of the answers are divided by; above 1 a model is less sure of itself."""
    thresholds: list[float] | None = None
    """Of sets of labels: the probability from which on each label is said, in order of the classes; null: 0.5."""
    ood_threshold: float | None = None
    """The unlike score from which on an image is flagged as unlike the training data; null flags none."""


AS_TRAINED = AnswerRule()
"""Temperature 1 and, for sets, thresholds of 0.5."""


class LabelSpace(Settings):
    """The classes of a data set. The network has one logit a class; in a hierarchy one a class of every level."""

    kind: LabelKind
    classes: list[str]
    """What is answered: the classes, the labels of a set, or the leaves as whole paths."""
    levels: list[Level] = Field(default_factory=list)
    """Of a hierarchy, the coarsest first; the finest holds `classes`."""

    @classmethod
    def of(cls, kind: LabelKind, labels: Iterable[Sequence[str]], level_names: Sequence[str] = ()) -> Self:
        """The space that the labels of some images span: one, a set, or one a level from coarse to fine each."""
        distinct = {tuple(found) for found in labels}
        if kind != "hierarchy":
            return cls(kind=kind, classes=sorted({name for found in distinct for name in found}))
        if shallow := [found for found in sorted(distinct) if len(found) != len(level_names)]:
            raise DataError(
                f"{PATH_SEPARATOR.join(shallow[0])}: should have a label for each of {', '.join(level_names)}"
            )
        levels: list[Level] = []
        for depth, name in enumerate(level_names, start=1):
            classes = sorted({PATH_SEPARATOR.join(found[:depth]) for found in distinct})
            above = {text: place for place, text in enumerate(levels[-1].classes)} if levels else {}
            parents = [above[text.rpartition(PATH_SEPARATOR)[0]] for text in classes] if levels else []
            levels.append(Level(name=name, classes=classes, parents=parents))
        return cls(kind=kind, classes=levels[-1].classes, levels=levels)

    def flaw(self) -> str | None:
        """How a space that somebody else wrote down contradicts itself, as a clause; None where it doesn't."""
        for place, names in (("the list of classes", self.classes), *((one.name, one.classes) for one in self.levels)):
            if repeated := [name for name, count in Counter(names).items() if count > 1]:
                return f"{place} holds {repeated[0]} more than once"
        if bool(self.levels) != (self.kind == "hierarchy") or (self.levels and self.levels[-1].classes != self.classes):
            return f"its {len(self.levels)} levels don't lead to the classes that it answers with"
        for above, level in pairwise(self.levels):
            known = range(len(above.classes))
            if len(level.parents) != len(level.classes) or any(parent not in known for parent in level.parents):
                return f"classes of {level.name} have parents that aren't in {above.name}"
        return None

    @property
    def num_logits(self) -> int:
        return sum(len(level.classes) for level in self.levels) or len(self.classes)

    def level_slices(self) -> list[slice]:
        """Where each level's logits lie among the T."""
        ends = np.cumsum([0, *(len(level.classes) for level in self.levels)]).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]

    def ancestors_DK(self) -> NDArray[np.int64]:
        """For each level and leaf, the position of the leaf's ancestor in that level."""
        rows = [np.arange(len(self.classes))]
        for level in reversed(self.levels[1:]):
            rows.insert(0, np.array(level.parents, np.int64)[rows[0]])
        return np.stack(rows)

    def targets(self, labels: Iterable[Sequence[str]]) -> NDArray[Any]:
        """Class indices [N]; of sets a matrix of truth values [N, K]. Raises DataError for a label of no class."""
        place = {name: number for number, name in enumerate(self.classes)}
        try:
            if self.kind == "multi":
                found = [[place[name] for name in names] for names in labels]
                target_NK = np.zeros((len(found), len(self.classes)), np.bool_)
                for row, positions in enumerate(found):
                    target_NK[row, positions] = True
                return target_NK
            return np.array([place[PATH_SEPARATOR.join(names)] for names in labels], np.int64)
        except KeyError as unknown:
            raise DataError(f"{unknown.args[0]} is none of the {len(self.classes)} classes") from None

    def class_logits(self, logits_NT: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Logits of the K answers.

        A leaf of a hierarchy has the sum of the log-probabilities on its path, so that every answer is consistent
        along the tree, and coarse certainty helps where fine classes are alike.
        """
        if self.kind != "hierarchy":
            return np.asarray(logits_NT, np.float32)
        ancestors_DK = self.ancestors_DK()
        total_NK = np.zeros((len(logits_NT), len(self.classes)), np.float32)
        for ancestor_K, place in zip(ancestors_DK, self.level_slices(), strict=True):
            total_NK += _log_softmax(np.asarray(logits_NT[:, place], np.float32))[:, ancestor_K]
        return total_NK

    def probabilities(self, logits_NT: NDArray[np.floating[Any]], *, temperature: float = 1.0) -> NDArray[np.float32]:
        """Of the K answers, in [0, 1]; they sum to 1 but for sets of labels, where each stands alone."""
        class_logits_NK = self.class_logits(logits_NT) / np.float32(temperature)
        if self.kind == "multi":
            # Of the two forms of the sigmoid, the one that does not overflow.
            weaker_NK = np.exp(-np.abs(class_logits_NK))
            probability_NK: NDArray[np.float32] = np.where(class_logits_NK >= 0, 1, weaker_NK) / (1 + weaker_NK)
        else:
            probability_NK = np.exp(_log_softmax(class_logits_NK))
        return probability_NK

    def answers(self, logits_NT: NDArray[np.floating[Any]], rule: AnswerRule = AS_TRAINED) -> NDArray[Any]:
        """What is said of each image: class indices [N]; of sets truth values [N, K], where a row may be all false."""
        if self.kind != "multi":
            winner_N: NDArray[np.int64] = self.class_logits(logits_NT).argmax(axis=1)
            return winner_N
        threshold_K = np.array(rule.thresholds or [0.5] * len(self.classes))
        said_NK: NDArray[np.bool_] = self.probabilities(logits_NT, temperature=rule.temperature) >= threshold_K
        return said_NK

    def confidence(self, probability_NK: NDArray[np.float32], said: NDArray[Any]) -> NDArray[np.float32]:
        """Probability of what is said [N]; of a set that of the label which is said, or left out, least surely."""
        if said.ndim == 1:
            sure_N: NDArray[np.float32] = np.take_along_axis(probability_NK, said[:, None], axis=1)[:, 0]
            return sure_N
        least_N: NDArray[np.float32] = np.where(said, probability_NK, 1 - probability_NK).min(axis=1)
        return least_N

    def names(self, chosen: NDArray[Any], *, joined: bool = True) -> list[Any]:
        """Label texts of class indices [N] or of a truth matrix [N, K]; sets joined by `|`, or as lists."""
        if chosen.ndim == 1:
            return [self.classes[number] for number in chosen]
        sets = [[self.classes[number] for number in np.flatnonzero(row)] for row in chosen]
        return [SET_SEPARATOR.join(names) for names in sets] if joined else sets


def describe_difference(answered: LabelSpace, wanted: LabelSpace) -> str:
    """For a sentence: what a model answers with, what the images have, and some of the names that differ."""
    only = sorted(set(answered.classes) ^ set(wanted.classes))
    names = f" (not in both: {', '.join(only[:_SHOWN_NAMES])})" if only else ""
    return (
        f"answers with {len(answered.classes)} {answered.kind} labels, and the images have {len(wanted.classes)} "
        f"{wanted.kind} ones{names}"
    )


def counted_names(label: str, labels: Sequence[str]) -> list[str]:
    """The classes that an image with this label text counts for: each label of a set, else the text itself."""
    return list(labels) if SET_SEPARATOR.join(labels) == label else [label]


def _log_softmax(logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted_NK = logits_NK - logits_NK.max(axis=1, keepdims=True)
    result: NDArray[np.float32] = shifted_NK - np.log(np.exp(shifted_NK).sum(axis=1, keepdims=True))
    return result


def ood_score(logits_NT: NDArray[np.floating[Any]], space: LabelSpace) -> NDArray[np.float32]:
    """How unlike the training data each image looks to the model [N]; larger is stranger.

    The free energy of the logits, -log Σ exp (Liu et al. 2020, "Energy-based Out-of-distribution Detection"); of a
    hierarchy the sum over its levels; of sets the sum over the labels, each against its own absence (Wang et al. 2021,
    "Can multi-label classification networks know what they don't know?"). The temperature plays no part: calibration
    would move the threshold that belongs to the score.
    """
    logits_NT = np.asarray(logits_NT, np.float32)
    if space.kind == "multi":
        energy_N: NDArray[np.float32] = -np.logaddexp(np.float32(0), logits_NT).sum(axis=1)
        return energy_N
    parts = space.level_slices() if space.kind == "hierarchy" else [slice(None)]
    free_N: NDArray[np.float32] = -np.stack([_log_sum_exp(logits_NT[:, place]) for place in parts]).sum(axis=0)
    return free_N


def _log_sum_exp(logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    largest_N = logits_NK.max(axis=1)
    result: NDArray[np.float32] = largest_N + np.log(np.exp(logits_NK - largest_N[:, None]).sum(axis=1))
    return result
