"""Models beside each other on the same images: what each scores, and whether the difference could be luck.

Letters: N images, K classes, D draws, C candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError, SettingsError, nearest
from components.evaluation.bootstrap import Interval, intervals
from components.evaluation.metrics import drawn_scores, score
from components.evaluation.predictions import Predictions
from components.evaluation.significance import compare_paired
from components.labels import AnswerRule

_LOWER_IS_BETTER = ("log_loss", "brier", "hamming_loss", "expected_calibration_error")


@dataclass(frozen=True)
class ComparedModel:
    """A candidate beside the reference."""

    name: str
    score: float
    difference: float
    """Its score minus that of the reference."""
    interval: Interval
    """95% of the difference, by a bootstrap that draws the same images for both."""
    won: int
    """Images that only this model answers rightly."""
    lost: int
    """Images that only the reference does."""
    p_mcnemar: float
    """Two-sided exact McNemar test of the accuracy."""
    p_bootstrap: float
    """Two-sided, that the score differs: twice the share of draws on the other side of zero."""
    p_corrected: float
    """By Holm for the number of candidates: the McNemar test for the accuracy, else the bootstrap."""


@dataclass(frozen=True)
class Comparison:
    metric: str
    reference: str
    reference_score: float
    images: int
    draws: int
    candidates: list[ComparedModel]
    """The best first."""


def compare_models(
    models: Mapping[str, Predictions],
    *,
    reference: str,
    metric: str = "accuracy",
    top_k: int = 5,
    num_draws: int = 1000,
    seed: int = 7,
) -> Comparison:
    """Every other model against the reference; DataError where they were not given the same images."""
    if reference not in models:
        raise SettingsError(f"no model is called {reference}{nearest(reference, models)}")
    base = models[reference]
    for name, predictions in models.items():
        if predictions.sha256_N != base.sha256_N or predictions.classes != base.classes:
            raise DataError(f"{name} and {reference} were not asked the same images and classes; evaluate both anew")
    scored = {name: score(one, top_k=top_k).values for name, one in models.items()}
    if metric not in scored[reference]:
        raise SettingsError(f"{metric} is no score{nearest(metric, scored[reference])}")
    drawn = {
        name: drawn_scores(one, top_k=top_k, num_draws=num_draws, seed=seed)[metric] for name, one in models.items()
    }
    candidates = [name for name in models if name != reference]
    pairs = [compare_paired(models[name].correct_N, base.correct_N) for name in candidates]
    mcnemar = [_two_sided(pair.only_challenger_right, pair.only_champion_right) for pair in pairs]
    bootstrap = [_share_beyond_zero(drawn[name] - drawn[reference]) for name in candidates]
    corrected = holm(np.array(mcnemar if metric == "accuracy" else bootstrap))
    compared = [
        ComparedModel(
            name=name,
            score=scored[name][metric],
            difference=scored[name][metric] - scored[reference][metric],
            interval=intervals((drawn[name] - drawn[reference])[:, None])[0],
            won=pairs[place].only_challenger_right,
            lost=pairs[place].only_champion_right,
            p_mcnemar=mcnemar[place],
            p_bootstrap=bootstrap[place],
            p_corrected=float(corrected[place]),
        )
        for place, name in enumerate(candidates)
    ]
    sign = 1 if metric.startswith(_LOWER_IS_BETTER) else -1
    compared.sort(key=lambda one: (sign * one.score, one.name))
    return Comparison(metric, reference, scored[reference][metric], len(base.path_N), num_draws, compared)


def ensemble(members: Sequence[Predictions]) -> Predictions:
    """The mean of the members' probabilities, as predictions that are scored beside theirs."""
    first = members[0]
    for one in members:
        if one.sha256_N != first.sha256_N or one.space != first.space:
            raise DataError("the members of an ensemble were not asked the same images and classes; evaluate them anew")
    logits_NT = np.log(np.mean([_shares(one) for one in members], axis=0))
    if first.space.kind == "multi":
        logits_NT -= np.log(np.mean([_shares(one, absent=True) for one in members], axis=0))
    return Predictions(
        path_N=first.path_N,
        sha256_N=first.sha256_N,
        target=first.target,
        logits_NT=logits_NT.astype(np.float32),
        space=first.space,
        answers=AnswerRule(),
    )


def holm(p_C: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """p values corrected for how many there are (Holm 1979): none of them is called by luck at the level they pass."""
    order = np.argsort(p_C, kind="stable")
    factors = np.arange(len(p_C), 0, -1)
    corrected = np.empty(len(p_C))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_C[order]), 1.0)
    return corrected


def _two_sided(won: int, lost: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _share_beyond_zero(difference_D: NDArray[np.float64]) -> float:
    """Never zero, for the observed part is a draw too."""
    below, above = (difference_D <= 0).sum() + 1, (difference_D >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / (len(difference_D) + 1)))


def _shares(predictions: Predictions, *, absent: bool = False) -> NDArray[np.float64]:
    """Probability of each logit's class among those of its level; of sets alone, or that it is absent."""
    logits_NT = predictions.logits_NT.astype(np.float64) / predictions.answers.temperature
    tiny = np.finfo(np.float64).tiny
    if predictions.space.kind == "multi":
        return np.maximum(np.exp(-np.logaddexp(0, logits_NT if absent else -logits_NT)), tiny)
    levels = predictions.space.level_slices() if predictions.space.kind == "hierarchy" else [slice(None)]
    for place in levels:
        shifted = np.exp(logits_NT[:, place] - logits_NT[:, place].max(axis=1, keepdims=True))
        logits_NT[:, place] = shifted / shifted.sum(axis=1, keepdims=True)
    return np.maximum(logits_NT, tiny)
