"""How well the probabilities of each class rank its images before all others: ROC AUC and average precision.

The values are those of scikit-learn's roc_auc_score and average_precision_score, of one class against the rest, found
for all classes in one pass that also tells what a bootstrap needs: how far each image moves the mean over the classes.
A draw that counts image j w_j times has, to first order, the mean plus Σ w_j influence_j. For the ROC AUC that is the
projection on which the variance of DeLong, DeLong and Clarke-Pearson (1988, "Comparing the areas under two or more
correlated ROC curves") rests; for the average precision the derivative by the weights (the infinitesimal jackknife,
Efron 1982). Sorting anew in each draw would cost a thousand times as much.

Letters: N images, K classes, U distinct scores among the positive images, G groups: each of these scores and each gap
between them.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 32
"""Classes at once; fixed, so that sums do not depend on the number of cores."""

Floats = NDArray[np.float64]
Columns = Callable[[int, int], NDArray[np.float32]]
"""Scores of the classes from the first to before the last, [classes, N]."""


@dataclass(frozen=True)
class RankScore:
    """Of all classes; NaN where the part holds only images of the class, or none."""

    value_K: Floats
    error_K: Floats
    """Standard error."""
    macro: float
    weighted: float
    """By the images of the class."""
    macro_influence_N: Floats
    weighted_influence_N: Floats


@dataclass(frozen=True)
class _Groups:
    """A class's images by how their score stands to those of the positive images, from low to high."""

    group_N: NDArray[np.int64]
    positive: NDArray[np.int64]
    """Which images are of the class."""
    positives_G: NDArray[np.int64]
    all_G: NDArray[np.int64]


@dataclass(frozen=True)
class _OneClass:
    value: float
    negative_G: Floats
    """Influence of an image that is not of the class, by its group."""
    positive_G: Floats


def rank_scores(columns: Columns, positives: Sequence[NDArray[np.int64]], num_images: int) -> tuple[RankScore, ...]:
    """ROC AUC and average precision; `positives` has the places of each class's images."""
    count_K = np.array([len(found) for found in positives])
    defined_K = (count_K > 0) & (count_K < num_images)
    starts = range(0, len(positives), _BLOCK)
    value_2K, error_2K = (np.full((2, len(positives)), np.nan) for _ in range(2))
    share_2K = np.stack([defined_K / max(1, defined_K.sum()), defined_K * count_K / max(1, count_K[defined_K].sum())])
    influence_22N = np.zeros((2, 2, num_images))

    def work(start: int) -> tuple[Floats, Floats, Floats]:
        block = slice(start, start + _BLOCK)
        return _block(columns(start, min(start + _BLOCK, len(positives))), positives[block], share_2K[:, block])

    with ThreadPoolExecutor(_cores()) as threads:
        for start, (value_2B, error_2B, moved_22N) in zip(starts, threads.map(work, starts), strict=True):
            value_2K[:, start : start + _BLOCK], error_2K[:, start : start + _BLOCK] = value_2B, error_2B
            influence_22N += moved_22N
    return tuple(
        _summed(value_2K[which], error_2K[which], share_2K, influence_22N[which], positives) for which in range(2)
    )


def _summed(
    value_K: Floats, error_K: Floats, share_2K: Floats, influence_2N: Floats, positives: Sequence[NDArray[np.int64]]
) -> RankScore:
    defined_K = share_2K[0] > 0
    if not defined_K.any():
        return RankScore(value_K, error_K, np.nan, np.nan, *influence_2N)
    macro, weighted = (float(share_K[defined_K] @ value_K[defined_K]) for share_K in share_2K)
    # The weights are counts of images, so they move with the draw too.
    numbers = np.flatnonzero(defined_K).tolist()
    images = sum(len(positives[number]) for number in numbers)
    for number in numbers:
        influence_2N[1, positives[number]] += (value_K[number] - weighted) / images
    return RankScore(value_K, error_K, macro, weighted, *influence_2N)


def _block(
    scores_BN: NDArray[np.float32], positives: Sequence[NDArray[np.int64]], share_2B: Floats
) -> tuple[Floats, Floats, Floats]:
    value_2B, error_2B = (np.full((2, len(positives)), np.nan) for _ in range(2))
    influence_22N = np.zeros((2, 2, scores_BN.shape[1]))
    for place, (score_N, positive) in enumerate(zip(scores_BN, positives, strict=True)):
        if not share_2B[0, place]:
            continue
        groups = _grouped(score_N, positive)
        for which, one in enumerate((_roc_auc(groups), _average_precision(groups))):
            value_2B[which, place] = one.value
            error_2B[which, place] = _standard_error(groups, one)
            moved_N = one.negative_G[groups.group_N]
            moved_N[positive] = one.positive_G[groups.group_N[positive]]
            for kind in range(2):
                influence_22N[which, kind] += share_2B[kind, place] * moved_N
    return value_2B, error_2B, influence_22N


def _grouped(score_N: NDArray[np.float32], positive: NDArray[np.int64]) -> _Groups:
    """Group 2u lies below the distinct score u and above the one before, group 2u + 1 has that very score."""
    value_U, count_U = np.unique(score_N[positive], return_counts=True)
    below_N = np.searchsorted(value_U, score_N)
    tied_N = value_U[np.minimum(below_N, len(value_U) - 1)] == score_N
    group_N = 2 * below_N + tied_N
    positives_G = np.zeros(2 * len(value_U) + 1, np.int64)
    positives_G[1::2] = count_U
    return _Groups(group_N, positive, positives_G, np.bincount(group_N, minlength=len(positives_G)))


def _roc_auc(groups: _Groups) -> _OneClass:
    positives_G, negatives_G = groups.positives_G, groups.all_G - groups.positives_G
    num_positives, num_negatives = positives_G.sum(), negatives_G.sum()
    # Of the positive images those that a negative one of the group stands below; ties count half.
    outranked_G = (num_positives - positives_G.cumsum() + positives_G / 2) / num_positives
    outranks_G = (negatives_G.cumsum() - negatives_G / 2) / num_negatives
    value = float(outranked_G @ negatives_G / num_negatives)
    return _OneClass(value, (outranked_G - value) / num_negatives, (outranks_G - value) / num_positives)


def _average_precision(groups: _Groups) -> _OneClass:
    positives_G, num_positives = groups.positives_G, groups.positives_G.sum()
    hits_G = positives_G[::-1].cumsum()[::-1]
    said_G = np.maximum(groups.all_G[::-1].cumsum()[::-1], 1)
    precision_G = hits_G / said_G
    value = float(positives_G @ precision_G / num_positives)
    # One image more with this score lowers the precision at each positive score up to its own, and raises it if it
    # is positive itself.
    lowered_G = (positives_G * hits_G / said_G**2).cumsum()
    raised_G = (positives_G / said_G).cumsum()
    return _OneClass(value, -lowered_G / num_positives, (precision_G - value + raised_G - lowered_G) / num_positives)


def _standard_error(groups: _Groups, one: _OneClass) -> float:
    negatives_G = groups.all_G - groups.positives_G
    return float(np.sqrt(negatives_G @ one.negative_G**2 + groups.positives_G @ one.positive_G**2))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
