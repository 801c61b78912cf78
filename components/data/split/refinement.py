"""Moves and exchanges of clusters between splits, as long as they bring classes and splits nearer to their fractions.

The greedy assignment decides on each cluster once, with what came before it. Here every cluster may move again, and the
sizes of the splits count beside their classes, so that remainders of many classes don't meet in one split.
Shapes: C clusters, P splits, S strata (the last one holds all images), E entries (images of a stratum in a cluster).
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDS = 20
_MOST_SWAPPED = 400
"""Clusters of each split among which pairs to exchange are looked for."""
_LEAST_GAIN = 1e-9


@dataclass(frozen=True)
class Holdings:
    """How many images of each stratum the clusters hold that may move, one entry for each pair of both."""

    cluster_E: Ints
    """Sorted."""
    stratum_E: Ints
    count_E: Ints
    rank_C: NDArray[np.uint64]


def refine(held: Holdings, split_C: Ints, behind_SP: Floats, weight_S: Floats) -> None:
    """Changes `split_C`; `behind_SP` is how many images each split lacks, negative where it has too many.

    It is the steepest descent of the sum over strata and splits of weight times the square of what is lacking.
    """
    for _ in range(_ROUNDS):
        _move(held, split_C, behind_SP, weight_S)
        if not _swap(held, split_C, behind_SP, weight_S):
            return


def _move(held: Holdings, split_C: Ints, behind_SP: Floats, weight_S: Floats) -> None:
    """Moves single clusters until none brings a gain."""
    start_C = np.searchsorted(held.cluster_E, np.arange(len(split_C) + 1))
    for _ in range(_ROUNDS):
        gain_CP = _gains(held, split_C, behind_SP, weight_S)
        best_C = gain_CP.argmax(axis=1)
        gain_C = gain_CP.max(axis=1)
        candidates = np.flatnonzero(gain_C > _LEAST_GAIN)
        moved = False
        for cluster in candidates[np.lexsort((held.rank_C[candidates], -gain_C[candidates]))].tolist():
            entries = slice(start_C[cluster], start_C[cluster + 1])
            strata, count, source = held.stratum_E[entries], held.count_E[entries], split_C[cluster]
            gain_P = _gains_of(count, behind_SP[strata], weight_S[strata], source)
            target = int(best_C[cluster])
            if gain_P[target] > _LEAST_GAIN:
                behind_SP[strata, source] += count
                behind_SP[strata, target] -= count
                split_C[cluster], moved = target, True
        if not moved:
            return


def _swap(held: Holdings, split_C: Ints, behind_SP: Floats, weight_S: Floats) -> bool:
    """Exchanges two clusters of each pair of splits, as long as that brings a gain; whether any did."""
    swapped = False
    by_rank = np.argsort(held.rank_C, kind="stable")
    for left, right in combinations(range(behind_SP.shape[1]), 2):
        sides = [by_rank[split_C[by_rank] == split][:_MOST_SWAPPED] for split in (left, right)]
        if not all(len(side) for side in sides):
            continue
        count_AS, count_BS = (_dense(held, side, len(weight_S)) for side in sides)
        apart_AB = (
            _squares(count_AS, weight_S)[:, None]
            + _squares(count_BS, weight_S)
            - 2 * (count_AS * weight_S) @ count_BS.T
        )
        for _ in range(_ROUNDS):
            slope_S = weight_S * (behind_SP[:, right] - behind_SP[:, left])
            gain_AB = (count_AS @ slope_S)[:, None] - count_BS @ slope_S - apart_AB
            one, other = divmod(int(gain_AB.argmax()), gain_AB.shape[1])
            if gain_AB[one, other] <= _LEAST_GAIN:
                break
            change_S = count_AS[one] - count_BS[other]
            behind_SP[:, left] += change_S
            behind_SP[:, right] -= change_S
            split_C[sides[0][one]], split_C[sides[1][other]] = right, left
            sides[0][one], sides[1][other] = sides[1][other], sides[0][one]
            count_AS[one], count_BS[other] = count_BS[other].copy(), count_AS[one].copy()
            square_A, square_B = _squares(count_AS, weight_S), _squares(count_BS, weight_S)
            apart_AB[one] = square_A[one] + square_B - 2 * count_BS @ (weight_S * count_AS[one])
            apart_AB[:, other] = square_A + square_B[other] - 2 * count_AS @ (weight_S * count_BS[other])
            swapped = True
    return swapped


def _dense(held: Holdings, clusters: Ints, num_strata: int) -> Floats:
    """The images of each stratum in these clusters, shape [len(clusters), S]."""
    row_C = np.full(len(held.rank_C), -1)
    row_C[clusters] = np.arange(len(clusters))
    chosen = row_C[held.cluster_E] >= 0
    count_RS = np.zeros((len(clusters), num_strata))
    count_RS[row_C[held.cluster_E[chosen]], held.stratum_E[chosen]] = held.count_E[chosen]
    return count_RS


def _squares(count_RS: Floats, weight_S: Floats) -> Floats:
    squares: Floats = (count_RS**2) @ weight_S
    return squares


def _gains(held: Holdings, split_C: Ints, behind_SP: Floats, weight_S: Floats) -> Floats:
    """By how much the sum falls if a cluster moves to a split, shape [C, P]; 0 for its own."""
    lacking_EP = behind_SP[held.stratum_E]
    own_E = np.take_along_axis(lacking_EP, split_C[held.cluster_E][:, None], axis=1)
    factor_E = 2 * weight_S[held.stratum_E] * held.count_E
    gain_EP = factor_E[:, None] * (lacking_EP - own_E - held.count_E[:, None])
    starts = np.searchsorted(held.cluster_E, np.arange(len(split_C)))
    gain_CP: Floats = np.add.reduceat(gain_EP, starts, axis=0)
    np.put_along_axis(gain_CP, split_C[:, None], 0.0, axis=1)
    return gain_CP


def _gains_of(count: Ints, lacking_SP: Floats, weight_S: Floats, source: int) -> Floats:
    gain_P: Floats = (2 * weight_S * count) @ (lacking_SP - lacking_SP[:, source, None] - count[:, None])
    return gain_P
