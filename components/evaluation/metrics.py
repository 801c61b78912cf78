"""Scores of predictions with 95% intervals, for every label type and every level of a hierarchy.

The values come from scikit-learn and torchmetrics (metric_values.py). The intervals resample what each image adds to
a score, so that nothing is sorted or predicted again. Means over classes (macro) are over the classes
that the images have.

Letters: N images, K classes, D resamples, M scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval, intervals, resamples
from components.evaluation.confusion_counts import confused_pairs, count
from components.evaluation.level_predictions import Floats, LevelPredictions, coarser_levels, finest_level
from components.evaluation.metric_values import values_of, values_of_classes
from components.evaluation.per_image_terms import image_terms
from components.evaluation.prediction_sets import SetScores, level_set_scores, set_scores
from components.evaluation.predictions import Predictions
from components.evaluation.ranking_metrics import Mean, RankScore, rank_scores
from components.records.scores import ClassScores, ConfusedPair
from components.shared.errors import DataError

MATRIX_CLASSES = 200
"""Up to so many classes the record holds the whole confusion matrix; above, confusion.parquet alone does."""


@dataclass(frozen=True)
class Scores:
    task: str
    """Name of the label type."""
    values: dict[str, float]
    """By name; fractions in [0, 1], the log loss in nats, the Brier score of exclusive classes in [0, 2].

    In multi-label tasks the top-k accuracy is the fraction of images with one of their labels among the k most
    probable.
    """
    intervals: dict[str, Interval]
    """The middle 95% of the resamples of each value, where there are resamples; of prediction sets always, Wilson's."""
    images: int
    top_k: int
    resamples: int
    classes: list[ClassScores]
    confusion: NDArray[np.int64] | None
    """Rows: true classes; columns: predicted ones; None for multi-label tasks."""
    confused: list[ConfusedPair]
    """The most frequent first."""
    levels: dict[str, "Scores"]
    """Of a hierarchy, the levels above the leaves, the coarsest first."""

    @property
    def accuracy(self) -> float:
        """Fraction of images with a correct prediction; in multi-label tasks, with every label correct."""
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
        """Of the headline, by the same names; empty without resamples."""
        found = dict(self.intervals)
        for level, scores in self.levels.items():
            found |= {f"{level}.{name}": interval for name, interval in scores.intervals.items()}
        return found


def score(predictions: Predictions, *, top_k: int, num_resamples: int = 0, seed: int = 7) -> Scores:
    """All scores; with `num_resamples` also their intervals. Raises DataError where a logit is no finite number."""
    _refuse_broken(predictions)
    finest = finest_level(predictions)
    coarser = {
        name: _scores(level, top_k=top_k, num_resamples=num_resamples, seed=seed, levels={})
        for name, level in coarser_levels(predictions.task, finest).items()
    }
    of_sets = level_set_scores(predictions)
    levels = {name: _with_sets(scores, of_sets.get(name)) for name, scores in coarser.items()}
    scores = _scores(finest, top_k=top_k, num_resamples=num_resamples, seed=seed, levels=levels)
    return _with_sets(scores, set_scores(predictions))


def _with_sets(scores: Scores, sets: SetScores | None) -> Scores:
    if sets is None:
        return scores
    return replace(scores, values=scores.values | sets.values, intervals=scores.intervals | sets.intervals)


def unranked_scores(
    predictions: Predictions, *, top_k: int, num_resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """The headline without ROC AUC and average precision, which take longest; intervals unless num_resamples is 0."""
    _refuse_broken(predictions)
    finest = finest_level(predictions)
    values = values_of(finest, top_k=top_k)
    return values, _intervals(finest, {}, values, top_k, num_resamples, seed)[0] if num_resamples else {}


def resampled_scores(predictions: Predictions, *, top_k: int, num_resamples: int, seed: int = 7) -> dict[str, Floats]:
    """Each score of the headline in each resample [D]; models with equally many images get the same resamples."""
    _refuse_broken(predictions)
    finest = finest_level(predictions)
    found = _resampled(finest, _ranks(finest, influences=True), top_k, num_resamples, seed)[0]
    for name, coarse in coarser_levels(predictions.task, finest).items():
        of_level = _resampled(coarse, _ranks(coarse, influences=True), top_k, num_resamples, seed)[0]
        found |= {f"{name}.{score}": value_D for score, value_D in of_level.items()}
    return found


def _refuse_broken(predictions: Predictions) -> None:
    if not len(predictions.path_N):
        raise DataError("there are no predictions to score; give a split that holds images")
    broken = np.flatnonzero(~np.isfinite(predictions.logits_NT).all(axis=1))
    if len(broken):
        raise DataError(
            f"the model answers {len(broken)} of {len(predictions.path_N)} images with a logit that isn't finite "
            f"({predictions.path_N[broken[0]]} first), so it can't be scored; train it again with a lower learning rate"
        )


def _scores(level: LevelPredictions, *, top_k: int, num_resamples: int, seed: int, levels: dict[str, Scores]) -> Scores:
    ranks = _ranks(level, influences=num_resamples > 0)
    values = values_of(level, top_k=top_k) | {name: mean.value for name, mean in _means(ranks).items()}
    found, of_classes = _intervals(level, ranks, values, top_k, num_resamples, seed) if num_resamples else ({}, {})
    by_class = values_of_classes(level) | {name: one.value_K for name, one in ranks.items()}
    pairs_KK = level.confusion()
    return Scores(
        task=level.task,
        values=dict(sorted(values.items())),
        intervals=dict(sorted(found.items())),
        images=level.num_images,
        top_k=top_k,
        resamples=num_resamples,
        classes=[_class_scores(label, by_class, of_classes, index) for index, label in enumerate(level.names)],
        confusion=pairs_KK if level.has_confusion_matrix else None,
        confused=confused_pairs(pairs_KK, level.names, level.images_K),
        levels=levels,
    )


def _class_scores(
    label: str, by_class: dict[str, NDArray[Any]], of_classes: dict[str, list[Interval]], index: int
) -> ClassScores:
    numbers: dict[str, Any] = {name: values_K[index].item() for name, values_K in by_class.items()}
    return ClassScores(label=label, **numbers, intervals={name: of[index] for name, of in of_classes.items()})


def _ranks(level: LevelPredictions, *, influences: bool) -> dict[str, RankScore]:
    """ROC AUC and average precision; with `influences` they can be resampled."""
    names = ("roc_auc", "average_precision")
    found = rank_scores(level.ranking_columns(), level.positives(), level.num_images, influences=influences)
    return dict(zip(names, found, strict=True))


def _means(ranks: dict[str, RankScore]) -> dict[str, Mean]:
    return {f"{averaged}_{name}": mean for name, one in ranks.items() for averaged, mean in one.means.items()}


def _intervals(
    level: LevelPredictions,
    ranks: dict[str, RankScore],
    values: dict[str, float],
    top_k: int,
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, Interval], dict[str, list[Interval]]]:
    """Intervals of the values, and of each class by its score."""
    resampled, resampled_of_classes = _resampled(level, ranks, top_k, num_resamples, seed)
    for name in resampled:
        if name.startswith("expected_calibration_error"):
            resampled[name] = _without_bias(resampled[name], values[name])
    found = dict(zip(resampled, intervals(np.stack(list(resampled.values()), axis=1)), strict=True))
    of_classes = {name: intervals(value_DK) for name, value_DK in resampled_of_classes.items()}
    return found, of_classes | {name: one.intervals() for name, one in ranks.items()}


def _without_bias(error_D: Floats, value: float) -> Floats:
    """Resamples of a calibration error, centred on the error itself.

    It is a sum of absolute values, to which the noise of a resample adds on average, so all resamples may lie above
    the value.
    """
    centred_D: Floats = np.clip(error_D + (value - np.median(error_D)), 0, 1)
    return centred_D


def _resampled(
    level: LevelPredictions, ranks: dict[str, RankScore], top_k: int, num_resamples: int, seed: int
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Every value in each resample [D], and precision, recall and F1 of each class [D, K]."""
    num_images, of_images, rank_means = level.num_images, image_terms(level, top_k=top_k), _means(ranks)
    term_NM = np.stack(list(of_images.means.values()), axis=1) / num_images
    value_M = np.array([mean.value for mean in rank_means.values()])
    influence_NM = np.array([mean.influence_N for mean in rank_means.values()]).reshape(-1, num_images).T
    values: list[dict[str, Floats]] = []
    by_class: list[dict[str, Floats]] = []
    for weight_DN in resamples(num_images, count=num_resamples, seed=seed):
        counts = count(level, weight_DN)
        by_class.append({name: of.astype(np.float32) for name, of in counts.of_classes().items()})
        values.append(
            dict(zip(of_images.means, (weight_DN @ term_NM).T, strict=True))
            | dict(zip(rank_means, np.clip(value_M + weight_DN @ influence_NM, 0, 1).T, strict=True))
            | {name: np.abs(weight_DN @ gap_NB).sum(axis=1) / num_images for name, gap_NB in of_images.gaps.items()}
            | counts.averages()
        )
    return _joined(values), _joined(by_class)


def _joined(blocks: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
