"""Scores of predictions with 95% intervals, of one class, of sets of labels and of every level of a hierarchy.

The intervals are made of what each image adds to a score, so the scores are found that way too; the tests hold every
value to scikit-learn's and torchmetrics' own functions. Means over classes (macro) are over the classes that the images
have.

Letters: N images, K classes, D draws, M scores.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.evaluation.bootstrap import Interval, draws, intervals
from components.evaluation.counts import ConfusedPair, Counts, confused_pairs, confusion, count, count_once
from components.evaluation.image_terms import ImageTerms, image_terms
from components.evaluation.judged import Floats, Judged, judge, levels_above
from components.evaluation.predictions import Predictions
from components.evaluation.ranking import Mean, RankScore, rank_scores
from components.labels import LabelKind

MATRIX_CLASSES = 200
"""Up to so many classes the record holds the whole confusion matrix; above, confusion.parquet alone does."""


@dataclass(frozen=True)
class ClassScores:
    label: str
    precision: float
    """In [0, 1]; 0 where the class was never predicted."""
    recall: float
    f1: float
    roc_auc: float
    """One against the rest; NaN where the part holds only one of the two."""
    average_precision: float
    images: int
    true_positives: int
    """Images that have the class and were said to; with the next three the confusion of this class with the rest."""
    false_negatives: int
    false_positives: int
    true_negatives: int
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Of precision, recall and F1 by the bootstrap, of the other two from their standard error."""


@dataclass(frozen=True)
class Scores:
    kind: LabelKind
    values: dict[str, float]
    """By name; shares in [0, 1], the log loss in nats, the Brier score of one class in [0, 2].

    Of sets the top-k accuracy is the share of images with one of their labels among the k most probable.
    """
    intervals: dict[str, Interval]
    """The middle 95% of the draws of each value; empty without draws."""
    images: int
    top_k: int
    draws: int
    classes: list[ClassScores]
    confusion: NDArray[np.int64] | None
    """Rows: true classes; columns: predicted ones; None for sets of labels."""
    confused: list[ConfusedPair]
    """The most frequent first."""
    levels: dict[str, "Scores"]
    """Of a hierarchy, the levels above the leaves, the coarsest first."""

    @property
    def accuracy(self) -> float:
        """Share of exactly right answers; of sets, of those that are right in every label."""
        return self.values["accuracy"]

    @property
    def macro_f1(self) -> float:
        return self.values["macro_f1"]

    def headline(self) -> dict[str, float]:
        """The scalars, for a tracking server and the gate; those of coarser levels as LEVEL.accuracy and the like."""
        found = dict(self.values)
        for level, scores in self.levels.items():
            found |= {f"{level}.{name}": value for name, value in scores.values.items()}
        return found

    def headline_intervals(self) -> dict[str, Interval]:
        """Of the headline, by the same names; empty without draws."""
        found = dict(self.intervals)
        for level, scores in self.levels.items():
            found |= {f"{level}.{name}": interval for name, interval in scores.intervals.items()}
        return found

    def as_record(self) -> dict[str, Any]:
        """Plain values; NaN where a score is not defined."""
        matrix = self.confusion if self.confusion is not None and len(self.classes) <= MATRIX_CLASSES else None
        return {
            **self.values,
            "kind": self.kind,
            "images": self.images,
            "top_k": self.top_k,
            "draws": self.draws,
            "intervals": {name: list(found) for name, found in self.intervals.items()},
            "classes": [asdict(one) for one in self.classes],
            "confusion": matrix.tolist() if matrix is not None else None,
            "confused": [asdict(pair) for pair in self.confused],
            "levels": {name: scores.as_record() for name, scores in self.levels.items()},
        }


def score(predictions: Predictions, *, top_k: int, num_draws: int = 0, seed: int = 7) -> Scores:
    """All scores; with `num_draws` also their intervals. Raises DataError where a logit is no finite number."""
    _refuse_broken(predictions)
    judged = judge(predictions)
    above = {
        name: _scores(level, top_k=top_k, num_draws=num_draws, seed=seed, levels={})
        for name, level in levels_above(predictions, judged).items()
    }
    return _scores(judged, top_k=top_k, num_draws=num_draws, seed=seed, levels=above)


def drawn_scores(predictions: Predictions, *, top_k: int, num_draws: int, seed: int = 7) -> dict[str, Floats]:
    """Each score in each draw [D]; models that are given as many images are drawn the same ones, so they pair."""
    _refuse_broken(predictions)
    return _drawn(_terms(judge(predictions), top_k, drawn=True), num_draws, seed)[0]


def macro_f1_of(judged: Judged, weight_DN: Floats) -> list[float]:
    """Macro F1 for each row of weights of the images."""
    return [float(value) for value in count(judged, weight_DN).averages()["macro_f1"]]


def _refuse_broken(predictions: Predictions) -> None:
    if not len(predictions.path_N):
        raise DataError("there are no predictions to score; give a part that holds images")
    broken = np.flatnonzero(~np.isfinite(predictions.logits_NT).all(axis=1))
    if len(broken):
        raise DataError(
            f"the model answers {len(broken)} of {len(predictions.path_N)} images with a logit that isn't finite "
            f"({predictions.path_N[broken[0]]} first), so it can't be scored; train it again with a lower learning rate"
        )


def _scores(judged: Judged, *, top_k: int, num_draws: int, seed: int, levels: dict[str, Scores]) -> Scores:
    terms = _terms(judged, top_k, drawn=num_draws > 0)
    found, of_classes = _intervals(terms, num_draws, seed) if num_draws else ({}, [{} for _ in judged.names])
    counts, pairs_KK = count_once(judged), confusion(judged)
    # Of a class without images nothing was found that there is.
    by_class: dict[str, NDArray[Any]] = {
        name: np.nan_to_num(values_DK[0]) for name, values_DK in counts.of_classes().items()
    }
    by_class |= {name: ranks.value_K for name, ranks in terms.ranks.items()}
    by_class |= _two_by_two(counts, judged.num_images)
    classes = [_class_scores(label, by_class, place, of_classes[place]) for place, label in enumerate(judged.names)]
    return Scores(
        kind=judged.kind,
        values=dict(sorted(_values(terms).items())),
        intervals=dict(sorted(found.items())),
        images=judged.num_images,
        top_k=top_k,
        draws=num_draws,
        classes=classes,
        confusion=None if judged.kind == "multi" else pairs_KK,
        confused=confused_pairs(pairs_KK, judged.names, counts.there_DK[0]),
        levels=levels,
    )


def _class_scores(label: str, by_class: dict[str, NDArray[Any]], place: int, found: dict[str, Interval]) -> ClassScores:
    numbers: dict[str, Any] = {name: values_K[place].item() for name, values_K in by_class.items()}
    return ClassScores(label=label, **numbers, intervals=found)


def _two_by_two(counts: Counts, num_images: int) -> dict[str, NDArray[np.int64]]:
    """Images of each class [K], and its confusion with the rest."""
    hit_K, said_K, there_K = (of_DK[0].astype(np.int64) for of_DK in (counts.hit_DK, counts.said_DK, counts.there_DK))
    return {
        "images": there_K,
        "true_positives": hit_K,
        "false_negatives": there_K - hit_K,
        "false_positives": said_K - hit_K,
        "true_negatives": num_images - said_K - there_K + hit_K,
    }


@dataclass(frozen=True)
class _Terms:
    """All that a score and a draw of it are made of."""

    judged: Judged
    of_images: ImageTerms
    ranks: dict[str, RankScore]

    @property
    def rank_means(self) -> dict[str, Mean]:
        return {
            f"{averaged}_{name}": mean for name, ranks in self.ranks.items() for averaged, mean in ranks.means.items()
        }


def _terms(judged: Judged, top_k: int, *, drawn: bool) -> _Terms:
    of_images = image_terms(judged, top_k=top_k)
    roc_auc, average_precision = rank_scores(of_images.columns, judged.positives(), judged.num_images, influences=drawn)
    return _Terms(judged, of_images, {"roc_auc": roc_auc, "average_precision": average_precision})


def _values(terms: _Terms) -> dict[str, float]:
    num_images = terms.judged.num_images
    return (
        {name: float(term_N.mean()) for name, term_N in terms.of_images.means.items()}
        | {name: float(value_D[0]) for name, value_D in count_once(terms.judged).averages().items()}
        | {name: mean.value for name, mean in terms.rank_means.items()}
        | {name: float(np.abs(gap_NB.sum(axis=0)).sum() / num_images) for name, gap_NB in terms.of_images.gaps.items()}
    )


def _intervals(terms: _Terms, num_draws: int, seed: int) -> tuple[dict[str, Interval], list[dict[str, Interval]]]:
    """Of the values and of each class."""
    drawn, drawn_of_classes = _drawn(terms, num_draws, seed)
    for name, gap_NB in terms.of_images.gaps.items():
        drawn[name] = _without_bias(drawn[name], gap_NB)
    found = dict(zip(drawn, intervals(np.stack(list(drawn.values()), axis=1)), strict=True))
    of_classes = {name: intervals(value_DK) for name, value_DK in drawn_of_classes.items()}
    of_classes |= {name: ranks.intervals() for name, ranks in terms.ranks.items()}
    return found, [{name: of[place] for name, of in of_classes.items()} for place in range(len(terms.judged.names))]


def _without_bias(error_D: Floats, gap_NB: Floats) -> Floats:
    """Draws of a calibration error around the error itself.

    It is a sum of sizes, to which the noise of a draw adds on average, so that all draws may lie above the value.
    """
    value = np.abs(gap_NB.sum(axis=0)).sum() / len(gap_NB)
    centred_D: Floats = np.clip(error_D + (value - np.median(error_D)), 0, 1)
    return centred_D


def _drawn(terms: _Terms, num_draws: int, seed: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Every value in each draw [D], and precision, recall and F1 of each class [D, K]."""
    num_images, of_images, rank_means = terms.judged.num_images, terms.of_images, terms.rank_means
    term_NM = np.stack(list(of_images.means.values()), axis=1) / num_images
    value_M = np.array([mean.value for mean in rank_means.values()])
    moved_NM = np.stack([mean.influence_N for mean in rank_means.values()], axis=1)
    values: list[dict[str, Floats]] = []
    by_class: list[dict[str, Floats]] = []
    for drawn_DN in draws(num_images, count=num_draws, seed=seed):
        counts = count(terms.judged, drawn_DN)
        by_class.append({name: of.astype(np.float32) for name, of in counts.of_classes().items()})
        values.append(
            dict(zip(of_images.means, (drawn_DN @ term_NM).T, strict=True))
            | dict(zip(rank_means, np.clip(value_M + drawn_DN @ moved_NM, 0, 1).T, strict=True))
            | {name: np.abs(drawn_DN @ gap_NB).sum(axis=1) / num_images for name, gap_NB in of_images.gaps.items()}
            | counts.averages()
        )
    return _joined(values), _joined(by_class)


def _joined(blocks: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
