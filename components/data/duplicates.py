"""Exact and near duplicates, found without comparing every pair.

Two hashes within 7 bits agree, up to one bit, in at least one of their four 16-bit quarters (pigeonhole; Norouzi et
al. 2012, "Fast Search in Hamming Space with Multi-Index Hashing"). Only images that meet in such a bucket are
compared. A candidate pair counts once its 32×32 grey pictures agree too, so plain or similar scenes don't join.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from components.data.hashing import SIDE, distance
from components.settings import Settings

_QUARTERS = (0, 16, 32, 48)
_ONE_BIT_APART = np.array([0, *(1 << bit for bit in range(16))], dtype=np.uint16)
_BATCH_PAIRS = 4_000_000
_PLAIN_DEVIATION = 2.0
"""Grey levels; below it a picture has no structure by which it could be told from another."""

Pairs = NDArray[np.int64]
"""Shape [P, 2]: positions of two images, the smaller first; each pair once, in order."""


class DuplicateSettings(Settings):
    """params.yaml: split.duplicates."""

    max_bits: int = Field(ge=0, le=7)
    """Perceptual hashes that differ in at most so many of 64 bits make a candidate pair; larger finds more copies."""
    min_correlation: float = Field(gt=0, le=1)
    """Least correlation of two 32×32 grey pictures for a candidate pair to count; larger joins fewer."""


@dataclass(frozen=True)
class DuplicatePairs:
    exact: Pairs
    """Equal bytes; each image with the first of its kind."""
    near: Pairs
    """Not equal bytes, but one picture, perhaps mirrored."""


def find_duplicates(
    *,
    sha256_N: NDArray[np.object_],
    hash_N: NDArray[np.uint64],
    mirror_hash_N: NDArray[np.uint64],
    thumbnail_NSS: NDArray[np.uint8],
    settings: DuplicateSettings,
) -> DuplicatePairs:
    """All pairs among N images. Near pairs are reported between the first images of each exact kind."""
    _, first_U, kind_N = np.unique(sha256_N.astype(str), return_index=True, return_inverse=True)
    exact = np.stack([first_U[kind_N], np.arange(len(sha256_N))], axis=1)
    exact = exact[exact[:, 0] != exact[:, 1]]
    found = [
        first_U[pairs]
        for mirrored in (False, True)
        for pairs in _verified(hash_N[first_U], mirror_hash_N[first_U], thumbnail_NSS[first_U], mirrored, settings)
    ]
    near = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    return DuplicatePairs(exact=_in_order(exact), near=_in_order(near))


def clusters(num_images: int, *links: Pairs) -> NDArray[np.int64]:
    """The number of the connected component of each image, shape [num_images]."""
    pairs = np.concatenate([np.empty((0, 2), np.int64), *links])
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(num_images, num_images))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def candidate_pairs(left_N: NDArray[np.uint64], right_N: NDArray[np.uint64], *, max_bits: int) -> Iterator[Pairs]:
    """Batches of pairs (i, j) with left[i] and right[j] at most max_bits (≤ 7) apart; one may come up to four times."""
    for shift in _QUARTERS:
        left_key, right_key = ((hashes >> np.uint64(shift)).astype(np.uint16) for hashes in (left_N, right_N))
        order = np.argsort(right_key, kind="stable")
        sorted_keys = right_key[order]
        for mask in _ONE_BIT_APART:
            wanted = left_key ^ mask
            start = np.searchsorted(sorted_keys, wanted, side="left")
            count = np.searchsorted(sorted_keys, wanted, side="right") - start
            for i, j in _joined(start, count, order):
                close = distance(left_N[i], right_N[j]) <= max_bits
                yield np.stack([i[close], j[close]], axis=1)


def _joined(start: Pairs, count: Pairs, order: Pairs) -> Iterator[tuple[Pairs, Pairs]]:
    """Each left image with every member of its bucket, some millions of pairs at a time."""
    ends = np.cumsum(count)
    begin = 0
    while begin < len(count):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _BATCH_PAIRS, side="right")))
        batch_count = count[begin:end]
        i = np.repeat(np.arange(begin, end), batch_count)
        within = np.arange(len(i)) - np.repeat(np.cumsum(batch_count) - batch_count, batch_count)
        yield i, order[np.repeat(start[begin:end], batch_count) + within]
        begin = end


def _verified(
    hash_U: NDArray[np.uint64],
    mirror_hash_U: NDArray[np.uint64],
    thumbnail_USS: NDArray[np.uint8],
    mirrored: bool,
    settings: DuplicateSettings,
) -> Iterator[Pairs]:
    picture_UP, plain_U = _standardized(thumbnail_USS)
    other_UP = _standardized(thumbnail_USS[:, :, ::-1])[0] if mirrored else picture_UP
    for pairs in candidate_pairs(hash_U, mirror_hash_U if mirrored else hash_U, max_bits=settings.max_bits):
        i, j = pairs[pairs[:, 0] < pairs[:, 1]].T
        told_apart = ~(plain_U[i] | plain_U[j])
        i, j = i[told_apart], j[told_apart]
        alike = np.einsum("ij,ij->i", picture_UP[i], other_UP[j]) >= settings.min_correlation
        yield np.stack([i[alike], j[alike]], axis=1)


def _standardized(thumbnail_USS: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Pictures of zero mean and unit length, so that a product is a correlation; and which ones are plain."""
    flat = thumbnail_USS.reshape(-1, SIDE * SIDE).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.maximum(length, 1e-6), (length[:, 0] / SIDE) < _PLAIN_DEVIATION


def _in_order(pairs: Pairs) -> Pairs:
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)
