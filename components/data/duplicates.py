"""Exact and near duplicates, found without comparing every pair.

Two hashes within 7 bits agree, up to one bit, in at least one of their four 16-bit quarters (pigeonhole; Norouzi et
al. 2012, "Fast Search in Hamming Space with Multi-Index Hashing"). Only images that meet in such a bucket are
compared. The hash of each whole picture is joined with the hashes of all crops of all pictures and of their mirror
images, so a crop or a bordered copy meets its source. A candidate pair counts once the two 32×32 grey pictures, laid
over each other as well as shifting and scaling can (components.data.alignment), agree in their details too: plain or
similar scenes don't.
Letters: N images, U images with different bytes, P pairs, S side of the grey square.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from components.data.alignment import VIEWS, Pictures, likeness
from components.data.hashing import distance, perceptual_hashes
from components.progress import Progress, silent
from components.settings import Settings

_QUARTERS = (0, 16, 32, 48)
_NUM_KEYS = 1 << 16
_ONE_BIT_APART = (0, *(1 << bit for bit in range(16)))
_CHUNK_IMAGES = 1 << 15
"""Images compared at a time: their hashes and buckets stay in a processor's second cache."""
_PAIRS_A_STEP = 20_000
MAX_BUCKET = 20_000
"""Different hashes of one bucket that each hash is compared with; a larger bucket is cut, and said to be."""
_MANY_ALIKE = 64
"""Equal hashes that are all compared with each other; of more, each is compared with the next so many."""

Pairs = NDArray[np.int64]
"""Shape [P, 2]: positions of two images, the smaller first; each pair once, in order."""


class DuplicateSettings(Settings):
    """params.yaml: split.duplicates."""

    max_bits: int = Field(ge=0, le=7)
    """Perceptual hashes that differ in at most so many of 64 bits make a candidate pair; larger finds more copies."""
    min_correlation: float = Field(gt=0, le=1)
    """Least correlation of two aligned 32×32 grey pictures for a candidate pair to count; larger joins fewer."""


@dataclass(frozen=True)
class DuplicatePairs:
    exact: Pairs
    """Equal bytes; each image with the first of its kind."""
    near: Pairs
    """Not equal bytes, but one picture, perhaps mirrored, cropped or framed."""
    num_candidates: int
    """Pairs that met by their hashes."""
    num_cut: int
    """Comparisons left out because too many pictures share a bucket or a hash; 0: the search was complete."""


@dataclass
class Cut:
    """Counts the comparisons that a search left out."""

    pairs: int = 0


def find_duplicates(
    *,
    sha256_N: NDArray[np.object_],
    thumbnail_NSS: NDArray[np.uint8],
    settings: DuplicateSettings,
    progress: Progress = silent,
) -> DuplicatePairs:
    """All pairs among N images. Near pairs are reported between the first images of each exact kind."""
    _, first_U, kind_N = np.unique(sha256_N.astype(str), return_index=True, return_inverse=True)
    exact = np.stack([first_U[kind_N], np.arange(len(sha256_N))], axis=1)
    exact = exact[exact[:, 0] != exact[:, 1]]
    thumbnail_USS = thumbnail_NSS[first_U]
    pictures = Pictures.of(thumbnail_USS)
    cut = Cut()
    pairs, starts = _candidates(thumbnail_USS, pictures.plain_U, settings.max_bits, cut, progress)
    alike = np.concatenate(
        [
            likeness(pictures, pairs[begin:end], starts[begin:end]) >= settings.min_correlation
            for begin, end in _steps(len(pairs), "compare candidates", progress)
        ]
    )
    return DuplicatePairs(_in_order(exact), _in_order(first_U[pairs[alike]]), len(pairs), cut.pairs)


def _candidates(
    thumbnail_USS: NDArray[np.uint8], plain_U: NDArray[np.bool_], max_bits: int, cut: Cut, progress: Progress
) -> tuple[Pairs, NDArray[np.int64]]:
    """Ordered pairs (i, j) where the hash of i is near to that of a view of j, and the number of the nearest view."""
    hash_U = perceptual_hashes(thumbnail_USS)[:, 0]
    num_images = np.int64(len(hash_U))
    best = np.empty(0, np.int64), np.empty(0, np.int64)
    for number, (crop, mirrored) in enumerate(VIEWS):
        progress("look for duplicates", number, len(VIEWS))
        view_U = hash_U if number == 0 else perceptual_hashes(thumbnail_USS, crop)[:, int(mirrored)]
        keys, ranks = [best[0]], [best[1]]
        for pairs in candidate_pairs(hash_U, view_U, max_bits=max_bits, cut=cut):
            i, j = pairs[(pairs[:, 0] != pairs[:, 1]) & ~plain_U[pairs].any(axis=1)].T
            keys.append(i * num_images + j)
            ranks.append(distance(hash_U[i], view_U[j]).astype(np.int64) * len(VIEWS) + number)
        best = _least(np.concatenate(keys), np.concatenate(ranks))
    progress("look for duplicates", len(VIEWS), len(VIEWS))
    return np.stack(np.divmod(best[0], num_images), axis=1), best[1] % len(VIEWS)


def _least(key_P: NDArray[np.int64], rank_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each key once, in order, with its lowest rank."""
    order = np.lexsort((rank_P, key_P))
    key_P, rank_P = key_P[order], rank_P[order]
    first = np.ones(len(key_P), bool)
    first[1:] = key_P[1:] != key_P[:-1]
    return key_P[first], rank_P[first]


def _steps(total: int, task: str, progress: Progress) -> Iterator[tuple[int, int]]:
    for begin in range(0, max(total, 1), _PAIRS_A_STEP):
        progress(task, begin, total)
        yield begin, min(begin + _PAIRS_A_STEP, total)
    progress(task, total, total)


def clusters(num_images: int, *links: Pairs) -> NDArray[np.int64]:
    """The number of the connected component of each image, shape [num_images]."""
    pairs = np.concatenate([np.empty((0, 2), np.int64), *links])
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(num_images, num_images))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def candidate_pairs(
    left_N: NDArray[np.uint64], right_N: NDArray[np.uint64], *, max_bits: int, cut: Cut | None = None
) -> Iterator[Pairs]:
    """Batches of pairs (i, j) with left[i] and right[j] at most max_bits (≤ 7) apart; one may come up to four times.

    Equal hashes collapse first, so a thousand equal pictures cost as much as one. Where left and right are one array,
    each pair of different positions comes as (i, j) or as (j, i), seldom as both.
    """
    cut = cut or Cut()
    same = left_N is right_N
    left = _Distinct.of(left_N)
    right = left if same else _Distinct.of(right_N)
    for i, j in _distinct_pairs(left.hashes_H, right.hashes_H, same=same, max_bits=max_bits, cut=cut):
        yield left.spread(i, j, right, cut)


@dataclass(frozen=True)
class _Distinct:
    """The different hashes of a set, and which images have each."""

    hashes_H: NDArray[np.uint64]
    start_H: Pairs
    count_H: Pairs
    order_N: Pairs

    @classmethod
    def of(cls, hash_N: NDArray[np.uint64]) -> "_Distinct":
        order = np.argsort(hash_N, kind="stable")
        ordered = hash_N[order]
        start = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
        return cls(ordered[start], start, np.diff(start, append=len(ordered)), order)

    def spread(self, i: Pairs, j: Pairs, other: "_Distinct", cut: Cut) -> Pairs:
        """The image pairs behind pairs of hashes; of many images with one hash only neighbours are paired."""
        count_i, count_j = self.count_H[i], other.count_H[j]
        if not len(i) or (count_i.max() == 1 and count_j.max() == 1):
            return np.stack([self.order_N[self.start_H[i]], other.order_N[other.start_H[j]]], axis=1)
        width = np.minimum(count_j, _MANY_ALIKE)
        cut.pairs += int((count_i * (count_j - width)).sum())
        times = count_i * width
        pair = np.repeat(np.arange(len(i)), times)
        row, column = np.divmod(np.arange(len(pair)) - np.repeat(np.cumsum(times) - times, times), width[pair])
        # Neighbours in a ring: row r meets columns r + 1, r + 2, …, so that all of one hash stay linked.
        column = (row + column + (width < count_j)[pair]) % count_j[pair]
        left = self.order_N[self.start_H[i][pair] + row]
        right = other.order_N[other.start_H[j][pair] + column]
        return np.stack([left, right], axis=1)


def _distinct_pairs(
    left_H: NDArray[np.uint64], right_H: NDArray[np.uint64], *, same: bool, max_bits: int, cut: Cut
) -> Iterator[tuple[Pairs, Pairs]]:
    if same:
        yield np.arange(len(left_H)), np.arange(len(left_H))
    for shift in _QUARTERS:
        left_key, left_order = _sorted_quarter(left_H, shift)
        right_key, right_order = (left_key, left_order) if same else _sorted_quarter(right_H, shift)
        left_sorted, right_sorted = left_H[left_order], right_H[right_order]
        start_K = np.searchsorted(right_key, np.arange(_NUM_KEYS + 1))
        for begin in range(0, len(left_key), _CHUNK_IMAGES):
            keys = left_key[begin : begin + _CHUNK_IMAGES].astype(np.int64)
            hashes = left_sorted[begin : begin + _CHUNK_IMAGES]
            for mask in _ONE_BIT_APART:
                # Within one set half the buckets do: the other half would find each pair again.
                at = np.flatnonzero(keys & mask == 0) if same and mask else np.arange(len(keys))
                first, end = start_K[keys[at] ^ mask], start_K[(keys[at] ^ mask) + 1]
                if same and not mask:
                    first = at + begin + 1
                for near_left, near_right in _close(hashes[at], first, end, right_sorted, max_bits, cut):
                    yield left_order[begin + at[near_left]], right_order[near_right]


def _sorted_quarter(hashes: NDArray[np.uint64], shift: int) -> tuple[NDArray[np.uint16], Pairs]:
    keys = (hashes >> np.uint64(shift)).astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _close(
    hashes: NDArray[np.uint64],
    first: Pairs,
    end: Pairs,
    right_sorted: NDArray[np.uint64],
    max_bits: int,
    cut: Cut,
) -> Iterator[tuple[Pairs, Pairs]]:
    """Each hash against its bucket, one member a round: the n-th members of all buckets are neighbours in memory."""
    cut.pairs += int(np.maximum(end - first - MAX_BUCKET, 0).sum())
    end = np.minimum(end, first + MAX_BUCKET)
    at = np.flatnonzero(first < end)
    hashes, first, end = hashes[at], first[at], end[at]
    while len(at):
        near = np.flatnonzero(distance(hashes, right_sorted[first]) <= max_bits)
        if len(near):
            yield at[near], first[near]
        first = first + 1
        left = first < end
        if not left.all():
            at, hashes, first, end = at[left], hashes[left], first[left], end[left]


def _in_order(pairs: Pairs) -> Pairs:
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)
