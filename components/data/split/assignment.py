"""Assignment of clusters of images to splits, so that each stratum comes closest to the configured fractions.

Clusters of several images or labels are assigned first, rare labels and large clusters before others, each to the
split that lacks most of its labels: iterative stratification (Sechidis et al. 2011), over clusters instead of images.
The remaining single images fill each class up to its fractions, in order of their rank.
Shapes: N images, M of them, C clusters, S strata (labels, and in a hierarchy the levels above), L labels, P splits,
E entries (how many images of a stratum a cluster holds).
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from components.data.split.refinement import Holdings, refine
from components.data.split.strata import SplitImages

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NONE = -1
"""Code of an image without a split, label or group."""
_INSISTING = 100
"""Weight of the sizes of splits over that of the rarest class, where a split is more than one cluster off its size."""
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class FreeClusters:
    """C clusters without a split, with E entries: how many images of a stratum a cluster holds."""

    size_C: Ints
    rank_C: NDArray[np.uint64]
    label_C: Ints
    """Label of a cluster that is a single image with nested strata, else -1."""
    time_C: NDArray[np.int64] | None
    """Time of the newest image, in ns since 1970."""
    cluster_E: Ints
    stratum_E: Ints
    count_E: Ints
    start_C: Ints
    """C + 1 indices: where the entries of each cluster start."""
    strata_of_label: list[list[int]]

    @classmethod
    def of(
        cls, images: SplitImages, image_M: Ints, cluster_M: Ints, rank_N: NDArray[np.uint64], time_N: Ints | None
    ) -> Self:
        num_clusters = int(cluster_M.max()) + 1
        size_C = np.bincount(cluster_M, minlength=num_clusters)
        order = np.argsort(cluster_M, kind="stable")
        starts = np.cumsum(size_C) - size_C
        label_M = images.label.code_N[image_M]
        row, stratum = spread(label_M, images.strata.of_label)
        key, count_E = np.unique(cluster_M[row] * len(images.strata.names) + stratum, return_counts=True)
        cluster_E, stratum_E = np.divmod(key, len(images.strata.names))
        single = (size_C == 1) & images.strata.nested
        return cls(
            size_C=size_C,
            rank_C=np.minimum.reduceat(rank_N[image_M][order], starts),
            label_C=np.where(single, label_M[order][starts], NONE),
            time_C=None if time_N is None else np.maximum.reduceat(time_N[image_M][order], starts),
            cluster_E=cluster_E,
            stratum_E=stratum_E,
            count_E=count_E,
            start_C=np.concatenate([[0], np.cumsum(np.bincount(cluster_E, minlength=num_clusters))]),
            strata_of_label=images.strata.of_label,
        )


def assign_stratified(free: FreeClusters, assigned_SP: Floats, assigned_P: Floats, fraction_P: Floats) -> Ints:
    """The split of each cluster, so that each stratum and each split, earlier images included, comes closest to its
    fractions; `assigned_P` counts the earlier images of all strata."""
    total_S = assigned_SP.sum(axis=1)
    np.add.at(total_S, free.stratum_E, free.count_E)
    need_SP = total_S[:, None] * fraction_P - assigned_SP
    need_P = (free.size_C.sum() + assigned_P.sum()) * fraction_P - assigned_P
    split_C = np.full(len(free.size_C), NONE)
    mixed = np.flatnonzero(free.label_C == NONE)
    if len(mixed):
        _assign_mixed(free, mixed, assigned_SP, assigned_P, total_S, fraction_P, split_C)
        _refine(free, mixed, need_SP, need_P, total_S, split_C)
    single = np.flatnonzero(free.label_C != NONE)
    if len(single):
        taken = np.isin(free.cluster_E, mixed)
        left_SP = need_SP.copy()
        np.subtract.at(left_SP, (free.stratum_E[taken], split_C[free.cluster_E[taken]]), free.count_E[taken])
        leaf_of_label = np.array([strata[-1] for strata in free.strata_of_label])
        split_C[single] = _assign_single(free.label_C[single], free.rank_C[single], left_SP[leaf_of_label], fraction_P)
    if len(single) and len(mixed):
        size_P = np.bincount(split_C, free.size_C, minlength=len(fraction_P))
        if np.abs(need_P - size_P).max() > free.size_C.max():
            _refine(free, np.arange(len(split_C)), need_SP, need_P, total_S, split_C)
    return split_C


def _assign_mixed(
    free: FreeClusters,
    mixed: Ints,
    assigned_SP: Floats,
    assigned_P: Floats,
    total_S: Floats,
    fraction_P: Floats,
    split_C: Ints,
) -> None:
    """Assigns clusters of several images or labels one after another, each to the split that lacks most of its strata.

    `behind` counts the images that a split lacks so far. Summed over the strata of the cluster, each weighted by its
    rarity, it finds the split that most lowers the sum of squares of what all splits lack. All images count as one
    more stratum, which decides between splits that lack the same.
    """
    rarest_C = np.minimum.reduceat(total_S[free.stratum_E], free.start_C[:-1])
    mixed = mixed[np.lexsort((free.rank_C[mixed], -free.size_C[mixed], rarest_C[mixed]))]
    # Plain lists: for a handful of numbers at a time they are many times as fast as arrays.
    start, stratum, count = free.start_C.tolist(), free.stratum_E.tolist(), free.count_E.tolist()
    size, everything = free.size_C.tolist(), len(total_S)
    weight = [*(1 / np.maximum(total_S, 1)), 1 / max(free.size_C.sum() + assigned_P.sum(), 1)]
    fraction = fraction_P.tolist()
    earlier_SP = np.vstack([assigned_SP, assigned_P])
    behind_P = (earlier_SP.sum(axis=1, keepdims=True) * fraction_P - earlier_SP).T.tolist()
    for cluster in mixed.tolist():
        entries = [(stratum[entry], count[entry]) for entry in range(start[cluster], start[cluster + 1])]
        entries.append((everything, size[cluster]))
        best, split = -math.inf, 0
        for number, behind in enumerate(behind_P):
            score = 0.0
            for one, images in entries:
                behind[one] += fraction[number] * images
                score += weight[one] * images * behind[one]
            if score > best:
                best, split = score, number
        split_C[cluster] = split
        for one, images in entries:
            behind_P[split][one] -= images


def _refine(free: FreeClusters, chosen: Ints, need_SP: Floats, need_P: Floats, total_S: Floats, split_C: Ints) -> None:
    """Moves chosen clusters, where classes and splits come nearer to their fractions by that.

    Nothing moves where no split has too many images of anything: what is lacking then, the single images fill that
    follow. So the removal of one image moves few others.
    """
    number_C = np.full(len(free.size_C), NONE)
    number_C[chosen] = np.arange(len(chosen))
    taken = number_C[free.cluster_E] != NONE
    cluster_E = np.concatenate([number_C[free.cluster_E[taken]], np.arange(len(chosen))])
    order = np.argsort(cluster_E, kind="stable")
    everything = np.full(len(chosen), len(total_S))
    held = Holdings(
        cluster_E=cluster_E[order],
        stratum_E=np.concatenate([free.stratum_E[taken], everything])[order],
        count_E=np.concatenate([free.count_E[taken], free.size_C[chosen]])[order],
        rank_C=free.rank_C[chosen],
    )
    behind_SP, split_M = np.vstack([need_SP, need_P]), split_C[chosen]
    np.subtract.at(behind_SP, (held.stratum_E, split_M[held.cluster_E]), held.count_E)
    if (behind_SP > -1).all():
        return
    # Between one image and one fraction: rare classes count more, but no frequent class is sacrificed to them.
    weight_S = np.maximum(total_S, 1) ** -0.5
    for weight in (weight_S.mean(), _INSISTING * weight_S.max()):
        refine(held, split_M, behind_SP, np.append(weight_S, weight))
        if np.abs(behind_SP[-1]).max() <= free.size_C.max():
            break
    split_C[chosen] = split_M


def _assign_single(label_C: Ints, rank_C: NDArray[np.uint64], need_LP: Floats, fraction_P: Floats) -> Ints:
    """The splits of single images: those of each label, in order of rank, are divided by what the splits still need.

    A boundary lies between two images; the rounding alternates from label to label by multiples of the golden ratio,
    so that neither a split nor a level of a hierarchy (whose labels are adjacent) collects all remainders.
    """
    order = np.lexsort((rank_C, label_C))
    labels, row, count_L = np.unique(label_C[order], return_inverse=True, return_counts=True)
    need_LP = np.maximum(need_LP[labels], 0)
    need_LP = np.where(need_LP.sum(axis=1, keepdims=True) > 1e-9, need_LP, fraction_P)
    reach_LP = np.cumsum(need_LP / need_LP.sum(axis=1, keepdims=True), axis=1)[:, :-1]
    offset_L = (np.arange(1, len(labels) + 1) * _GOLDEN) % 1
    # A tiny allowance: 10 × (0.7 + 0.2) must not fall short of 9.
    cut_LP = np.floor(count_L[:, None] * reach_LP + offset_L[:, None] + 1e-9)
    within = np.arange(len(order)) - (np.cumsum(count_L) - count_L)[row]
    split_C = np.empty(len(order), np.int64)
    split_C[order] = (within[:, None] >= cut_LP[row]).sum(axis=1)
    return split_C


def fill_lacking(free: FreeClusters, split_C: Ints, present_SP: Ints, *, required: list[int]) -> None:
    """Moves clusters, one at a time, so that each stratum is in each required split, where enough clusters are free."""
    strata_S = np.unique(free.stratum_E)
    lacking = [(int(stratum), split) for stratum in strata_S for split in required if present_SP[stratum, split] == 0]
    if not lacking:
        return
    by_stratum = np.argsort(free.stratum_E, kind="stable")
    bounds = np.searchsorted(free.stratum_E[by_stratum], np.arange(len(present_SP) + 1))
    for stratum, split in lacking:
        if present_SP[stratum, split]:
            continue
        candidates = free.cluster_E[by_stratum[bounds[stratum] : bounds[stratum + 1]]]
        for cluster in candidates[np.lexsort((free.rank_C[candidates], free.size_C[candidates]))].tolist():
            entries = slice(free.start_C[cluster], free.start_C[cluster + 1])
            strata, count, donor = free.stratum_E[entries], free.count_E[entries], split_C[cluster]
            if donor not in required or (present_SP[strata, donor] > count).all():
                present_SP[strata, donor] -= count
                present_SP[strata, split] += count
                split_C[cluster] = split
                break


def assign_by_time(free: FreeClusters, fraction_P: Floats) -> Ints:
    """The split of each cluster, where clusters in order of their newest image are divided by the number of images."""
    assert free.time_C is not None
    order = np.lexsort((free.rank_C, free.time_C))
    size = free.size_C[order]
    middle = (np.cumsum(size) - size / 2) / size.sum()
    split_C = np.empty(len(order), np.int64)
    split_C[order] = np.searchsorted(np.cumsum(fraction_P)[:-1], middle)
    return split_C


def present_in(images: SplitImages, image_M: Ints, split_N: Ints, num_splits: int) -> Ints:
    """Number of images of each stratum in each split, shape [S, P]."""
    shape = (len(images.label.names), num_splits)
    flat = np.bincount(images.label.code_N[image_M] * num_splits + split_N[image_M], minlength=shape[0] * shape[1])
    label, stratum = spread(np.arange(shape[0]), images.strata.of_label)
    present_SP = np.zeros((len(images.strata.names), num_splits), np.int64)
    np.add.at(present_SP, stratum, flat.reshape(shape)[label])
    return present_SP


def spread(label_M: Ints, strata_of_label: list[list[int]]) -> tuple[Ints, Ints]:
    """One entry for each stratum of each image: the index of the image, and the stratum."""
    length_L = np.array([len(strata) for strata in strata_of_label])
    flat = np.array([stratum for strata in strata_of_label for stratum in strata], np.int64)
    start_L, length_M = np.cumsum(length_L) - length_L, length_L[label_M]
    row = np.repeat(np.arange(len(label_M)), length_M)
    within = np.arange(len(row)) - np.repeat(np.cumsum(length_M) - length_M, length_M)
    return row, flat[start_L[label_M[row]] + within]
