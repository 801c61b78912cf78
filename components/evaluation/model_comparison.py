"""Models compared on the same images: their scores, and whether the difference could be chance.

Letters: N images, K classes, D resamples, C candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval, intervals
from components.evaluation.metrics import resampled_scores, score
from components.evaluation.paired_test import compare_paired
from components.evaluation.predictions import Predictions
from components.records.members import MemberScores
from components.shared.errors import DataError, SettingsError, nearest

_ENSEMBLE = "the ensemble"
_LOWER_IS_BETTER = ("log_loss", "brier", "hamming_loss", "expected_calibration_error")


@dataclass(frozen=True)
class ComparedModel:
    """A candidate, compared with the reference."""

    name: str
    score: float
    difference: float
    """Its score minus that of the reference."""
    interval: Interval
    """95% of the difference, by a bootstrap with the same resamples for both."""
    won: int
    """Images that only this model predicts correctly."""
    lost: int
    """Images that only the reference predicts correctly."""
    p_mcnemar: float
    """Two-sided exact McNemar test of the accuracy."""
    p_corrected: float
    """By Holm for the number of candidates: the McNemar test for the accuracy, else the bootstrap, two-sided: twice the
    fraction of resamples on the other side of zero."""


@dataclass(frozen=True)
class Comparison:
    metric: str
    reference: str
    images: int
    resamples: int
    candidates: list[ComparedModel]
    """The best first."""


def compare_models(
    models: Mapping[str, Predictions],
    *,
    reference: str,
    metric: str = "accuracy",
    top_k: int = 5,
    num_resamples: int = 1000,
    seed: int = 7,
) -> Comparison:
    """Every other model against the reference; DataError where they were evaluated on different images."""
    if reference not in models:
        raise SettingsError(f"no model is called {reference}{nearest(reference, models)}")
    base = models[reference]
    for name, predictions in models.items():
        if predictions.sha256_N != base.sha256_N or predictions.classes != base.classes:
            raise DataError(
                f"{name} and {reference} were not evaluated on the same images and classes; evaluate both again"
            )
    scored = {name: score(one, top_k=top_k).values for name, one in models.items()}
    if metric not in scored[reference]:
        raise SettingsError(f"{metric} is no score{nearest(metric, scored[reference])}")
    resampled = {
        name: resampled_scores(one, top_k=top_k, num_resamples=num_resamples, seed=seed)[metric]
        for name, one in models.items()
    }
    candidates = [name for name in models if name != reference]
    pairs = [compare_paired(models[name].correct_N, base.correct_N) for name in candidates]
    mcnemar = [_two_sided(pair.only_challenger_correct, pair.only_champion_correct) for pair in pairs]
    bootstrap = [_p_of_sign(resampled[name] - resampled[reference]) for name in candidates]
    corrected = holm(np.array(mcnemar if metric == "accuracy" else bootstrap))
    compared = [
        ComparedModel(
            name=name,
            score=scored[name][metric],
            difference=scored[name][metric] - scored[reference][metric],
            interval=intervals((resampled[name] - resampled[reference])[:, None])[0],
            won=pairs[index].only_challenger_correct,
            lost=pairs[index].only_champion_correct,
            p_mcnemar=mcnemar[index],
            p_corrected=float(corrected[index]),
        )
        for index, name in enumerate(candidates)
    ]
    sign = 1 if metric.startswith(_LOWER_IS_BETTER) else -1
    compared.sort(key=lambda one: (sign * one.score, one.name))
    return Comparison(metric, reference, len(base.path_N), num_resamples, compared)


def beside_members(
    ensemble: Predictions, members: Mapping[str, Predictions], *, top_k: int, num_resamples: int, seed: int = 7
) -> list[MemberScores]:
    """Each member of an ensemble on the images of the ensemble, in the given order."""
    models = {_ENSEMBLE: ensemble, **members}
    found = compare_models(models, reference=_ENSEMBLE, top_k=top_k, num_resamples=num_resamples, seed=seed)
    by_name = {one.name: one for one in found.candidates}
    scored = {name: score(one, top_k=top_k, num_resamples=num_resamples, seed=seed) for name, one in members.items()}
    return [
        MemberScores(
            name=name,
            accuracy=one.accuracy,
            accuracy_interval=one.intervals["accuracy"],
            macro_f1=one.macro_f1,
            macro_f1_interval=one.intervals["macro_f1"],
            difference=by_name[name].difference,
            interval=by_name[name].interval,
            p_corrected=by_name[name].p_corrected,
        )
        for name, one in scored.items()
    ]


def holm(p_C: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """p values corrected for how many there are (Holm 1979): a level bounds the probability of any false positive."""
    order = np.argsort(p_C, kind="stable")
    factors = np.arange(len(p_C), 0, -1)
    corrected = np.empty(len(p_C))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_C[order]), 1.0)
    return corrected


def _two_sided(won: int, lost: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _p_of_sign(difference_D: NDArray[np.float64]) -> float:
    """Two-sided bootstrap p value of the sign; never zero, for the observed split is a resample too."""
    below, above = (difference_D <= 0).sum() + 1, (difference_D >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / (len(difference_D) + 1)))
