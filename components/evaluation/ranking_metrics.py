"""How well the probabilities rank true classes before others: ROC AUC and average precision, one against the rest.

The values come from scikit-learn, which is given groups of images (metric_values.py) that are found for all classes in
one pass (micro: with every image and class as one yes or no, in a second). The groups also give what a bootstrap needs:
how far each image moves a mean. A resample that counts image j w_j times has, to first order, the mean plus
Σ w_j influence_j. For the ROC AUC that is the projection on which the variance of DeLong, DeLong and Clarke-Pearson
(1988, "Comparing the areas under two or more correlated ROC curves") rests; for the average precision the derivative by
the weights (the infinitesimal jackknife, Efron 1982). Sorting again in each resample would cost a thousand times as
much.

Letters: N images, K classes, B classes of a block, U distinct scores among the positives, G groups: each of these
scores and each gap between them; M the two measures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval
from components.evaluation.level_predictions import Columns
from components.evaluation.metric_values import average_precision, roc_auc
from components.shared.processor import usable_cores

_NORMAL_95 = 1.959963984540054
_BLOCK = 32
"""Classes at once; fixed, so that sums do not depend on the number of cores."""

Floats = NDArray[np.float64]
Averaged = Literal["macro", "micro", "weighted"]
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Mean:
    """Over classes (macro), over them by their images (weighted), or over all images and classes at once (micro)."""

    value: float
    influence_N: Floats
    """Zero unless requested."""


@dataclass(frozen=True)
class RankScore:
    """Of all classes; NaN where the split holds only images of the class, or none."""

    value_K: Floats
    error_K: Floats
    """Standard error."""
    means: Mapping[Averaged, Mean]

    def intervals(self) -> list[Interval]:
        """95% of each class, from its standard error."""
        reach_K = _NORMAL_95 * self.error_K
        low_K, high_K = (np.clip(edge_K, 0, 1).tolist() for edge_K in (self.value_K - reach_K, self.value_K + reach_K))
        return list(zip(low_K, high_K, strict=True))


@dataclass(frozen=True)
class _Ladder:
    """The distinct scores of the positives from low to high."""

    value_U: NDArray[np.float32]
    positives_G: NDArray[np.int64]

    @classmethod
    def of(cls, positive: NDArray[np.float32]) -> "_Ladder":
        value_U, count_U = np.unique(positive, return_counts=True)
        positives_G = np.zeros(2 * len(value_U) + 1, np.int64)
        positives_G[1::2] = count_U
        return cls(value_U, positives_G)

    def groups(self, score_N: NDArray[np.float32]) -> NDArray[np.int64]:
        """Group 2u lies below the distinct score u and above the one before, group 2u + 1 has that very score."""
        below_N = np.searchsorted(self.value_U, score_N)
        tied_N = self.value_U[np.minimum(below_N, len(self.value_U) - 1)] == score_N
        groups_N: NDArray[np.int64] = 2 * below_N + tied_N
        return groups_N

    def count(self, group_N: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(group_N, minlength=len(self.positives_G))


@dataclass(frozen=True)
class _Measure:
    value: float
    negative_G: Floats
    """Influence of a negative, by its group."""
    positive_G: Floats

    def influence(self, group_N: NDArray[np.int64], positive: NDArray[np.int64]) -> Floats:
        """Influence of each image, of which those at `positive` are of the class."""
        influence_N: Floats = self.negative_G[group_N]
        influence_N[positive] = self.positive_G[group_N[positive]]
        return influence_N

    def standard_error(self, positives_G: NDArray[np.int64], all_G: NDArray[np.int64]) -> float:
        return float(np.sqrt((all_G - positives_G) @ self.negative_G**2 + positives_G @ self.positive_G**2))


@dataclass(frozen=True)
class _Block:
    value_MB: Floats
    error_MB: Floats
    influence_M2N: Floats
    """On the macro and on the weighted mean."""
    positive: list[NDArray[np.float32]]
    """Scores of each class's images."""


def rank_scores(
    columns: Columns, positives: Sequence[NDArray[np.int64]], num_images: int, *, influences: bool
) -> tuple[RankScore, RankScore]:
    """ROC AUC and average precision; `positives` has the indices of each class's images.

    The influences on the micro means take a pass of their own: without `influences` they are zero.
    """
    count_K = np.array([len(found) for found in positives])
    defined_K = (count_K > 0) & (count_K < num_images)
    weight_2K = np.stack([defined_K / max(1, defined_K.sum()), defined_K * count_K / max(1, count_K[defined_K].sum())])

    def work(block: slice) -> _Block:
        return _block(columns(block.start, block.stop), positives[block], weight_2K[:, block])

    influence_M2N = np.zeros((2, 2, num_images))
    blocks: list[_Block] = []
    for one in _in_blocks(work, len(positives)):
        influence_M2N += one.influence_M2N
        blocks.append(one)
    value_MK = np.concatenate([one.value_MB for one in blocks], axis=1)
    error_MK = np.concatenate([one.error_MB for one in blocks], axis=1)
    positive = np.concatenate([scores for one in blocks for scores in one.positive])
    micro = _micro(columns, positives, positive, num_images, influences=influences)
    roc_auc, average_precision = (
        RankScore(
            value_MK[which],
            error_MK[which],
            {**_means(value_MK[which], weight_2K, influence_M2N[which], positives), "micro": micro[which]},
        )
        for which in range(2)
    )
    return roc_auc, average_precision


def _in_blocks(work: Callable[[slice], _Made], num_classes: int) -> Iterator[_Made]:
    """The results of `work` for each block of classes, in their order."""
    starts = range(0, num_classes, _BLOCK)
    with ThreadPoolExecutor(usable_cores()) as threads:
        yield from threads.map(work, [slice(start, min(start + _BLOCK, num_classes)) for start in starts])


def _block(scores_BN: NDArray[np.float32], positives: Sequence[NDArray[np.int64]], weight_2B: Floats) -> _Block:
    value_MB, error_MB = (np.full((2, len(positives)), np.nan) for _ in range(2))
    influence_M2N = np.zeros((2, 2, scores_BN.shape[1]))
    for index, (score_N, positive) in enumerate(zip(scores_BN, positives, strict=True)):
        if not weight_2B[0, index]:
            continue
        ladder = _Ladder.of(score_N[positive])
        group_N = ladder.groups(score_N)
        all_G = ladder.count(group_N)
        for which, one in enumerate(_measures(ladder.positives_G, all_G)):
            value_MB[which, index] = one.value
            error_MB[which, index] = one.standard_error(ladder.positives_G, all_G)
            influence_M2N[which] += weight_2B[:, index, None] * one.influence(group_N, positive)
    own = [score_N[positive] for score_N, positive in zip(scores_BN, positives, strict=True)]
    return _Block(value_MB, error_MB, influence_M2N, own)


def _means(
    value_K: Floats, weight_2K: Floats, influence_2N: Floats, positives: Sequence[NDArray[np.int64]]
) -> dict[Averaged, Mean]:
    numbers = np.flatnonzero(weight_2K[0] > 0).tolist()
    macro, weighted = (float(weight_K[numbers] @ value_K[numbers]) if numbers else np.nan for weight_K in weight_2K)
    # The weights are counts of images, so they vary with the resample too.
    images = sum(len(positives[number]) for number in numbers)
    for number in numbers:
        influence_2N[1, positives[number]] += (value_K[number] - weighted) / images
    return {"macro": Mean(macro, influence_2N[0]), "weighted": Mean(weighted, influence_2N[1])}


def _micro(
    columns: Columns,
    positives: Sequence[NDArray[np.int64]],
    positive: NDArray[np.float32],
    num_images: int,
    *,
    influences: bool,
) -> list[Mean]:
    """`positive` has the scores of all positives. NaN where the split holds nothing but positives, or none."""
    influence_MN = np.zeros((2, num_images))
    if not 0 < len(positive) < num_images * len(positives):
        return [Mean(np.nan, influence_N) for influence_N in influence_MN]
    ladder = _Ladder.of(positive)

    def counted(block: slice) -> NDArray[np.int64]:
        return ladder.count(ladder.groups(columns(block.start, block.stop).ravel()))

    all_G = np.zeros_like(ladder.positives_G)
    for of_block_G in _in_blocks(counted, len(positives)):
        all_G += of_block_G
    measures = _measures(ladder.positives_G, all_G)

    def influence(block: slice) -> Floats:
        of_block_MN = np.zeros_like(influence_MN)
        for score_N, own in zip(columns(block.start, block.stop), positives[block], strict=True):
            group_N = ladder.groups(score_N)
            of_block_MN += [one.influence(group_N, own) for one in measures]
        return of_block_MN

    if influences:
        for of_block_MN in _in_blocks(influence, len(positives)):
            influence_MN += of_block_MN
    return [Mean(one.value, influence_N) for one, influence_N in zip(measures, influence_MN, strict=True)]


def _measures(positives_G: NDArray[np.int64], all_G: NDArray[np.int64]) -> tuple[_Measure, _Measure]:
    return _roc_auc(positives_G, all_G - positives_G), _average_precision(positives_G, all_G)


def _roc_auc(positives_G: NDArray[np.int64], negatives_G: NDArray[np.int64]) -> _Measure:
    value, num_positives, num_negatives = roc_auc(positives_G, negatives_G), positives_G.sum(), negatives_G.sum()
    # Of the positives those that a negative of the group stands below; ties count half.
    outranked_G = (num_positives - positives_G.cumsum() + positives_G / 2) / num_positives
    outranks_G = (negatives_G.cumsum() - negatives_G / 2) / num_negatives
    return _Measure(value, (outranked_G - value) / num_negatives, (outranks_G - value) / num_positives)


def _average_precision(positives_G: NDArray[np.int64], all_G: NDArray[np.int64]) -> _Measure:
    value, num_positives = average_precision(positives_G, all_G - positives_G), positives_G.sum()
    correct_G = positives_G[::-1].cumsum()[::-1]
    pred_G = np.maximum(all_G[::-1].cumsum()[::-1], 1)
    precision_G = correct_G / pred_G
    # One image more with this score lowers the precision at each positive score up to its own, and raises it if it
    # is positive itself.
    lowered_G = (positives_G * correct_G / pred_G**2).cumsum()
    raised_G = (positives_G / pred_G).cumsum()
    return _Measure(value, -lowered_G / num_positives, (precision_G - value + raised_G - lowered_G) / num_positives)
