"""Scores of predictions with 95% intervals, of one class, of sets of labels and of every level of a hierarchy.

What is counted comes from scikit-learn. What is a mean over images or over ranks (log loss, Brier score, calibration
error, ROC AUC, average precision) is found with what each image adds to it, because the intervals are made of that;
the tests hold every value to scikit-learn's and torchmetrics' own functions. Means over classes (macro) are over the
classes that the images have.

Letters: N images, R images of a chunk, K classes, B bins of confidence, D draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.evaluation.bootstrap import Interval, draws, intervals
from components.evaluation.calibration import NUM_BINS, bin_of
from components.evaluation.predictions import Predictions, same_answers
from components.evaluation.ranking import RankScore, rank_scores
from components.labels import LabelKind

_ROWS = 4096
_CLASSES = 64
_NORMAL_95 = 1.959963984540054
MATRIX_CLASSES = 200
"""Up to so many classes the record holds the whole confusion matrix; above, the confused pairs tell it."""
_SHOWN_PAIRS = 100

Floats = NDArray[np.floating[Any]]


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
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Of precision, recall and F1 by the bootstrap, of the other two from their standard error."""


@dataclass(frozen=True)
class ConfusedPair:
    """How often images of one class were taken for another; of sets, said instead of one that was missed."""

    label: str
    said: str
    images: int
    share: float
    """Of the images of the class."""


@dataclass(frozen=True)
class Scores:
    kind: LabelKind
    values: dict[str, float]
    """By name; shares in [0, 1], the log loss in nats, the Brier score of one class in [0, 2]."""
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
        """The scalars, for a tracking server; those of coarser levels as LEVEL.accuracy and the like."""
        found = dict(self.values)
        for level, scores in self.levels.items():
            found |= {f"{level}.{name}": scores.values[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")}
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


@dataclass(frozen=True)
class Judged:
    """Answers beside the truth, of one level."""

    kind: LabelKind
    names: Sequence[str]
    target: NDArray[Any]
    predicted: NDArray[Any]
    logits_NK: NDArray[np.float32]
    """Of the answers, before the temperature."""
    temperature: float

    @property
    def num_images(self) -> int:
        return len(self.target)

    @property
    def correct_N(self) -> NDArray[np.bool_]:
        return same_answers(self.target, self.predicted)

    def positives(self) -> list[NDArray[np.int64]]:
        """Places of each class's images."""
        if self.kind == "multi":
            return [np.flatnonzero(column_N) for column_N in self.target.T]
        order = np.argsort(self.target, kind="stable")
        return np.split(order, np.searchsorted(self.target[order], np.arange(1, len(self.names))))


@dataclass(frozen=True)
class _ByImage:
    """What each image adds to the scores that are means over images."""

    log_loss_N: Floats
    brier_N: Floats
    gap_NB: Floats
    """Right minus sure, in the bin of its confidence; over the labels of a set, their mean."""
    rank_N: NDArray[np.int64] | None
    """Classes that are more probable than the true one."""
    columns: Callable[[int, int], NDArray[np.float32]]
    """What ranks the images for each class of a block."""


def score(predictions: Predictions, *, top_k: int, num_draws: int = 0, seed: int = 7) -> Scores:
    """All scores; with `num_draws` also their intervals. Raises DataError where a logit is no finite number."""
    _refuse_broken(predictions)
    judged, space = judge(predictions), predictions.space
    levels: dict[str, Scores] = {}
    ancestors_DK = space.ancestors_DK()[:-1] if space.kind == "hierarchy" else ()
    for level, ancestor_K in zip(space.levels, ancestors_DK, strict=False):
        coarse = _coarsened(judged, level.classes, ancestor_K, predictions.probabilities_NK)
        levels[level.name] = _scores(coarse, top_k=top_k, num_draws=num_draws, seed=seed, levels={})
    return _scores(judged, top_k=top_k, num_draws=num_draws, seed=seed, levels=levels)


def drawn_scores(
    predictions: Predictions, *, top_k: int, num_draws: int, seed: int = 7
) -> dict[str, NDArray[np.float64]]:
    """Each score in each draw [D]; models that are given as many images are drawn the same ones, so they pair."""
    _refuse_broken(predictions)
    return _drawn(_terms(judge(predictions), top_k), num_draws, seed)[0]


def judge(predictions: Predictions) -> Judged:
    return Judged(
        kind=predictions.space.kind,
        names=predictions.classes,
        target=predictions.target,
        predicted=predictions.predicted,
        logits_NK=predictions.space.class_logits(predictions.logits_NT),
        temperature=predictions.answers.temperature,
    )


def macro_f1_of(judged: Judged, weight_DN: Floats) -> list[float]:
    """Macro F1 for each row of weights of the images."""
    return [one["macro_f1"] for one in _averages(*_counts(judged, weight_DN))]


def _refuse_broken(predictions: Predictions) -> None:
    if not len(predictions.path_N):
        raise DataError("there are no predictions to score; give a part that holds images")
    broken = np.flatnonzero(~np.isfinite(predictions.logits_NT).all(axis=1))
    if len(broken):
        raise DataError(
            f"the model answers {len(broken)} of {len(predictions.path_N)} images with a logit that isn't finite "
            f"({predictions.path_N[broken[0]]} first), so it can't be scored; train it again with a lower learning rate"
        )


def _coarsened(judged: Judged, names: Sequence[str], ancestor_K: NDArray[np.int64], leaf_NK: Floats) -> Judged:
    """A level above the leaves: the ancestor of the answer, and the sum of the probabilities below each class."""
    below_KC = (ancestor_K[:, None] == np.arange(len(names))).astype(np.float32)
    logits_NC = np.log(np.maximum(leaf_NK @ below_KC, np.finfo(np.float32).tiny)).astype(np.float32)
    return Judged("single", names, ancestor_K[judged.target], ancestor_K[judged.predicted], logits_NC, 1.0)


def _scores(judged: Judged, *, top_k: int, num_draws: int, seed: int, levels: dict[str, Scores]) -> Scores:
    terms = _terms(judged, top_k)
    precision_K, recall_K, f1_K, count_K = _precision_recall_f1(judged)
    found, of_classes = _intervals(terms, num_draws, seed) if num_draws else ({}, [{} for _ in judged.names])
    classes = [
        ClassScores(
            label=label,
            precision=float(precision_K[place]),
            recall=float(recall_K[place]),
            f1=float(f1_K[place]),
            roc_auc=float(terms.roc_auc.value_K[place]),
            average_precision=float(terms.average_precision.value_K[place]),
            images=int(count_K[place]),
            intervals=of_classes[place],
        )
        for place, label in enumerate(judged.names)
    ]
    pairs_KK = _confusion(judged)
    return Scores(
        kind=judged.kind,
        values=dict(sorted(terms.values().items())),
        intervals=dict(sorted(found.items())),
        images=judged.num_images,
        top_k=top_k,
        draws=num_draws,
        classes=classes,
        confusion=None if judged.kind == "multi" else pairs_KK,
        confused=_confused(pairs_KK, judged.names, count_K),
        levels=levels,
    )


@dataclass(frozen=True)
class _Terms:
    """All that a score and a draw of it are made of."""

    judged: Judged
    means: Mapping[str, Floats]
    gaps: Mapping[str, Floats]
    roc_auc: RankScore
    average_precision: RankScore

    @property
    def ranks(self) -> dict[str, tuple[float, Floats]]:
        """Value and influence of each image."""
        return {
            f"{weighing}_{name}": (getattr(ranks, weighing), getattr(ranks, f"{weighing}_influence_N"))
            for name, ranks in (("roc_auc", self.roc_auc), ("average_precision", self.average_precision))
            for weighing in ("macro", "weighted")
        }

    def values(self) -> dict[str, float]:
        num_images = self.judged.num_images
        return (
            {name: float(term_N.mean()) for name, term_N in self.means.items()}
            | _averages(*_counts(self.judged, np.ones((1, num_images))))[0]
            | {name: value for name, (value, _) in self.ranks.items()}
            | {name: float(np.abs(gap_NB.sum(axis=0)).sum() / num_images) for name, gap_NB in self.gaps.items()}
        )


def _terms(judged: Judged, top_k: int) -> _Terms:
    by_image = _by_image(judged)
    gaps = {"expected_calibration_error": by_image.gap_NB}
    if judged.temperature != 1:
        gaps["expected_calibration_error_before_scaling"] = _by_image(judged, temperature=1.0).gap_NB
    ranks = rank_scores(by_image.columns, judged.positives(), judged.num_images)
    return _Terms(judged, _means(judged, by_image, top_k), gaps, *ranks)


def _means(judged: Judged, by_image: _ByImage, top_k: int) -> dict[str, Floats]:
    terms: dict[str, Floats] = {
        "accuracy": judged.correct_N.astype(np.float64),
        "log_loss": by_image.log_loss_N,
        "brier": by_image.brier_N,
    }
    if by_image.rank_N is not None:
        terms["top_k_accuracy"] = (by_image.rank_N < top_k).astype(np.float64)
    else:
        terms["subset_accuracy"] = terms["accuracy"]
        terms["hamming_loss"] = (judged.target != judged.predicted).mean(axis=1)
    return terms


def _by_image(judged: Judged, temperature: float | None = None) -> _ByImage:
    scale = np.float32(judged.temperature if temperature is None else temperature)
    return _of_sets(judged, scale) if judged.kind == "multi" else _of_one_class(judged, scale)


def _of_one_class(judged: Judged, scale: np.float32) -> _ByImage:
    num_images = judged.num_images
    log_loss_N, brier_N, largest_N, log_sum_N, confidence_N = (np.empty(num_images, np.float32) for _ in range(5))
    rank_N = np.empty(num_images, np.int64)
    before_K = np.arange(len(judged.names))
    for start in range(0, num_images, _ROWS):
        rows = slice(start, start + _ROWS)
        logits_RK, target_R = judged.logits_NK[rows] / scale, judged.target[rows, None]
        largest_N[rows] = logits_RK.max(axis=1)
        own_R = np.take_along_axis(logits_RK, target_R, axis=1)
        # Equal ones rank by their place, as the largest is chosen.
        rank_N[rows] = ((logits_RK > own_R) | ((logits_RK == own_R) & (before_K < target_R))).sum(axis=1)
        logits_RK -= largest_N[rows, None]
        own_R = np.take_along_axis(logits_RK, target_R, axis=1)[:, 0]
        said_R = np.take_along_axis(logits_RK, judged.predicted[rows, None], axis=1)[:, 0]
        np.exp(logits_RK, out=logits_RK)
        sum_R = logits_RK.sum(axis=1)
        log_sum_N[rows] = np.log(sum_R)
        log_loss_N[rows] = log_sum_N[rows] - own_R
        confidence_N[rows] = np.exp(said_R) / sum_R
        squares_R = np.einsum("rk,rk->r", logits_RK, logits_RK) / sum_R**2
        brier_N[rows] = squares_R - 2 * np.exp(own_R) / sum_R + 1
    gap_NB = np.zeros((num_images, NUM_BINS), np.float32)
    gap_NB[np.arange(num_images), bin_of(confidence_N)] = judged.correct_N - confidence_N

    def columns(first: int, end: int) -> NDArray[np.float32]:
        block_NC = judged.logits_NK[:, first:end] / scale
        block_NC -= largest_N[:, None]
        block_NC -= log_sum_N[:, None]
        np.exp(block_NC, out=block_NC)
        return np.ascontiguousarray(block_NC.T)

    return _ByImage(log_loss_N.astype(np.float64), brier_N.astype(np.float64), gap_NB, rank_N, columns)


def _of_sets(judged: Judged, scale: np.float32) -> _ByImage:
    num_images, num_classes = judged.logits_NK.shape
    log_loss_N, brier_N = (np.empty(num_images, np.float64) for _ in range(2))
    gap_NB = np.zeros((num_images, NUM_BINS), np.float64)
    for start in range(0, num_images, _ROWS):
        rows = slice(start, start + _ROWS)
        logits_RK, target_RK = judged.logits_NK[rows] / scale, judged.target[rows]
        weaker_RK = np.exp(-np.abs(logits_RK))
        probability_RK = np.where(logits_RK >= 0, 1, weaker_RK) / (1 + weaker_RK)
        log_loss_N[rows] = (np.maximum(logits_RK, 0) - logits_RK * target_RK + np.log1p(weaker_RK)).mean(axis=1)
        gap_RK = target_RK - probability_RK
        brier_N[rows] = (gap_RK**2).mean(axis=1)
        place_RK = bin_of(probability_RK) + NUM_BINS * np.arange(len(gap_RK))[:, None]
        summed = np.bincount(place_RK.ravel(), gap_RK.ravel(), NUM_BINS * len(gap_RK))
        gap_NB[rows] = summed.reshape(-1, NUM_BINS) / num_classes

    # A probability near 1 has fewer digits than its logit, and ranks alike.
    def columns(first: int, end: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(judged.logits_NK[:, first:end].T)

    return _ByImage(log_loss_N, brier_N, gap_NB, None, columns)


def _precision_recall_f1(judged: Judged) -> Any:
    from sklearn.metrics import precision_recall_fscore_support

    labels = np.arange(len(judged.names))
    return precision_recall_fscore_support(judged.target, judged.predicted, labels=labels, zero_division=0)


def _confusion(judged: Judged) -> NDArray[np.int64]:
    """[true class, predicted class]; of sets how often the second was said too much where the first was missed."""
    if judged.kind == "multi":
        missed_NK = (judged.target & ~judged.predicted).astype(np.float32)
        extra_NK = (judged.predicted & ~judged.target).astype(np.float32)
        instead: NDArray[np.int64] = (missed_NK.T @ extra_NK).astype(np.int64)
        return instead
    from sklearn.metrics import confusion_matrix

    found: NDArray[np.int64] = confusion_matrix(judged.target, judged.predicted, labels=np.arange(len(judged.names)))
    return found


def _confused(pairs_KK: NDArray[np.int64], names: Sequence[str], count_K: NDArray[np.int64]) -> list[ConfusedPair]:
    wrong_KK = pairs_KK.copy()
    np.fill_diagonal(wrong_KK, 0)
    rows, columns = np.nonzero(wrong_KK)
    share = wrong_KK[rows, columns] / count_K[rows]
    order = np.lexsort((columns, rows, -share, -wrong_KK[rows, columns]))[:_SHOWN_PAIRS]
    return [
        ConfusedPair(names[rows[at]], names[columns[at]], int(wrong_KK[rows[at], columns[at]]), float(share[at]))
        for at in order
    ]


def _counts(judged: Judged, drawn_DN: Floats) -> tuple[Floats, Floats, Floats]:
    """Images of each class that were hit, said and there, in each draw: three times [D, K]."""
    num_classes = len(judged.names)
    if judged.kind == "multi":
        return tuple(  # type: ignore[return-value]
            np.concatenate(
                [drawn_DN @ flags_NK[:, at : at + _CLASSES] for at in range(0, num_classes, _CLASSES)], axis=1
            )
            for flags_NK in (judged.target & judged.predicted, judged.predicted, judged.target)
        )
    hit = np.flatnonzero(judged.correct_N)
    sides = ((judged.target[hit], drawn_DN[:, hit]), (judged.predicted, drawn_DN), (judged.target, drawn_DN))
    return tuple(  # type: ignore[return-value]
        np.stack([np.bincount(label_N, weight_N, num_classes) for weight_N in weight_DN])
        for label_N, weight_DN in sides
    )


def _of_counts(hit_DK: Floats, said_DK: Floats, there_DK: Floats) -> dict[str, Floats]:
    """Precision, recall and F1 of each class in each draw; NaN where a draw has no image of the class."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "precision": np.where(said_DK > 0, hit_DK / said_DK, 0.0),
            "recall": hit_DK / there_DK,
            "f1": 2 * hit_DK / (said_DK + there_DK),
        }
    return {name: np.where(there_DK > 0, values_DK, np.nan) for name, values_DK in found.items()}


def _averages(hit_DK: Floats, said_DK: Floats, there_DK: Floats) -> list[dict[str, float]]:
    """Of each draw the scores that are means over classes."""
    averages: dict[str, Floats] = {}
    total_D = there_DK.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, values_DK in _of_counts(hit_DK, said_DK, there_DK).items():
            averages[f"macro_{name}"] = np.nansum(values_DK, axis=1) / (there_DK > 0).sum(axis=1)
            averages[f"weighted_{name}"] = np.nansum(values_DK * there_DK, axis=1) / total_D
        hits_D, said_D = hit_DK.sum(axis=1), said_DK.sum(axis=1)
        averages["micro_precision"] = np.where(said_D > 0, hits_D / said_D, 0.0)
        averages["micro_recall"] = hits_D / total_D
        averages["micro_f1"] = 2 * hits_D / (said_D + total_D)
    averages["balanced_accuracy"] = averages["macro_recall"]
    return [dict(zip(averages, map(float, row), strict=True)) for row in np.stack(list(averages.values()), axis=1)]


def _intervals(terms: _Terms, num_draws: int, seed: int) -> tuple[dict[str, Interval], list[dict[str, Interval]]]:
    """Of the values and of each class."""
    drawn, drawn_of_classes = _drawn(terms, num_draws, seed)
    found = dict(zip(drawn, intervals(np.stack(list(drawn.values()), axis=1)), strict=True))
    of_classes = {name: intervals(value_DK) for name, value_DK in drawn_of_classes.items()}
    return found, [
        {name: of[place] for name, of in of_classes.items()} | _rank_intervals(place, terms)
        for place in range(len(terms.judged.names))
    ]


def _drawn(terms: _Terms, num_draws: int, seed: int) -> tuple[dict[str, NDArray[np.float64]], dict[str, Floats]]:
    """Every value in each draw [D], and precision, recall and F1 of each class [D, K]."""
    judged, num_images = terms.judged, terms.judged.num_images
    term_NM = np.stack(list(terms.means.values()), axis=1) / num_images
    value_M = np.array([value for value, _ in terms.ranks.values()])
    moved_NM = np.stack([influence_N for _, influence_N in terms.ranks.values()], axis=1)
    rows: list[Floats] = []
    averages: list[dict[str, float]] = []
    by_class: list[dict[str, Floats]] = []
    for drawn_DN in draws(num_images, count=num_draws, seed=seed):
        counts = _counts(judged, drawn_DN)
        by_class.append({name: of.astype(np.float32) for name, of in _of_counts(*counts).items()})
        averages += _averages(*counts)
        gaps = [np.abs(drawn_DN @ gap_NB).sum(axis=1, keepdims=True) / num_images for gap_NB in terms.gaps.values()]
        rows.append(np.concatenate([drawn_DN @ term_NM, np.clip(value_M + drawn_DN @ moved_NM, 0, 1), *gaps], axis=1))
    names = [*terms.means, *terms.ranks, *terms.gaps]
    found = dict(zip(names, np.concatenate(rows).T, strict=True))
    found |= {name: np.array([one[name] for one in averages]) for name in averages[0]}
    return found, {name: np.concatenate([block[name] for block in by_class]) for name in by_class[0]}


def _rank_intervals(place: int, terms: _Terms) -> dict[str, Interval]:
    found = {}
    for name, ranks in (("roc_auc", terms.roc_auc), ("average_precision", terms.average_precision)):
        value, reach = ranks.value_K[place], _NORMAL_95 * ranks.error_K[place]
        found[name] = (float(np.clip(value - reach, 0, 1)), float(np.clip(value + reach, 0, 1)))
    return found
