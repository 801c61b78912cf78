"""All pairs of 64-bit hashes within 7 bits, found without comparing every pair.

Of 7 differing bits at most 3 lie in one half of the hash (pigeonhole; Norouzi et al. 2012, "Fast Search in Hamming
Space with Multi-Index Hashing"). Cut that half into blocks: 3 bits touch at most 3 of them, and every 3 blocks lie in
one set of a Steiner quadruple system, so in the blocks outside of that set the two hashes are equal. Those blocks are
a key; hashes are sorted by each key in turn, and only neighbours with an equal key are compared. A small set takes the
system S(3,4,8), 28 keys of 16 bits; a large one S(3,4,10), 60 keys of 18 to 20 bits, whose buckets stay small.
Shapes: N images, H distinct hashes, R runs of hashes with an equal key, P pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from components.data.images.perceptual_hash import distance

MAX_BITS = 7
"""Largest distance that the keys can find."""
MAX_BUCKET = 20_000
"""Most distinct hashes of a bucket with which a hash is compared; a larger bucket is cut, which is counted."""
_MANY_ALIKE = 64
"""Number of images with one hash up to which all are compared; of more, each is compared with about this many."""
_WIDER_KEYS_FROM = 1 << 23
"""Number of distinct hashes from which on wider keys, which cost more sorting, save more comparisons."""
_CHUNK = 1 << 15
"""Hashes compared at a time, which fit into a processor's L2 cache."""
_QUARTER_BITS = 16

Pairs = NDArray[np.int64]
"""Shape [P, 2]: indices of two images."""
Hashes = NDArray[np.uint64]


@dataclass
class Cut:
    """Number of comparisons that a search skips."""

    pairs: int = 0


def candidate_pairs(
    left_N: Hashes, right_N: Hashes, *, max_bits: int, cut: Cut | None = None, wide: bool | None = None
) -> Iterator[Pairs]:
    """Batches of the pairs (i, j) with left[i] and right[j] at most max_bits (≤ 7) apart; each pair comes once.

    Equal hashes collapse first, so a thousand equal images cost as much as one. Where left and right are one array,
    each pair of different indices comes as (i, j) or as (j, i). `wide` chooses the keys; None: by the set's size.
    However many share a hash, later entries never remove a pair of earlier ones: with images by age no pair is lost
    when data grow, unless MAX_BUCKET cuts.
    """
    cut = cut or Cut()
    same = left_N is right_N
    hash_H, hash_index_N = np.unique(left_N if same else np.concatenate([left_N, right_N]), return_inverse=True)
    left = _Members.of(hash_index_N[: len(left_N)], len(hash_H))
    right = left if same else _Members.of(hash_index_N[len(left_N) :], len(hash_H))
    alone = np.arange(len(hash_H))
    yield left.spread(alone, alone, right, cut, within=same)
    for i, j in _distinct_pairs(hash_H, max_bits, cut, len(hash_H) >= _WIDER_KEYS_FROM if wide is None else wide):
        yield left.spread(i, j, right, cut)
        if not same:
            yield left.spread(j, i, right, cut)


@dataclass(frozen=True)
class _Members:
    """The images of each distinct hash."""

    start_H: Pairs
    count_H: Pairs
    order_N: Pairs

    @classmethod
    def of(cls, hash_index_N: Pairs, num_hashes: int) -> "_Members":
        count_H = np.bincount(hash_index_N, minlength=num_hashes)
        return cls(np.cumsum(count_H) - count_H, count_H, np.argsort(hash_index_N, kind="stable"))

    def spread(self, i: Pairs, j: Pairs, other: "_Members", cut: Cut, *, within: bool = False) -> Pairs:
        """The pairs of images of pairs of hashes; if many images have one hash, not all of their pairs.

        `within`: i and j are the same hashes of the same images, where no image is paired with itself.
        """
        used = (self.count_H[i] > within) & (other.count_H[j] > 0)
        i, j = i[used], j[used]
        count_i, count_j = self.count_H[i], other.count_H[j]
        pair, row = _counted(count_i)
        first, begin, end = _columns(row, count_j[pair], within=within)
        times = first + end - begin
        every = count_i * (count_i - 1) // 2 if within else count_i * count_j
        cut.pairs += int(every.sum() - times.sum())
        at, column = _counted(times)
        column = np.where(column < first[at], column, column - first[at] + begin[at])
        pair, row = pair[at], row[at]
        left = self.order_N[self.start_H[i][pair] + row]
        right = other.order_N[other.start_H[j][pair] + column]
        return np.stack([left, right], axis=1)


def _counted(times: Pairs) -> tuple[Pairs, Pairs]:
    """Each index repeated by its count, and the number of the repetition."""
    at = np.repeat(np.arange(len(times)), times)
    return at, np.arange(len(at)) - np.repeat(np.cumsum(times) - times, times)


def _columns(row: Pairs, num_columns: Pairs, *, within: bool) -> tuple[Pairs, Pairs, Pairs]:
    """The columns with which each row is compared: the first `first`, and those from `begin` to before `end`.

    Row and column are indices among the images of a hash, by age. The first _MANY_ALIKE are all compared. A later row
    is compared with the first half as many columns, which link all copies, and with its neighbors in age.
    Only its own index decides, so that later images remove no pair.
    """
    half = _MANY_ALIKE // 2
    most = np.minimum(num_columns, row) if within else num_columns
    first = np.minimum(most, np.where(row < _MANY_ALIKE, _MANY_ALIKE, half))
    # Within one hash a row is compared only with earlier ones, so that each pair comes once.
    below, above = (half, 0) if within else (half // 2, half // 2)
    begin, end = (np.clip(row + reach, first, np.maximum(most, first)) for reach in (-below, above))
    return first, begin, end


@dataclass(frozen=True)
class _Key:
    """The blocks of one half of the hash that must be equal."""

    quarters: tuple[int, int]
    """Indices of the 16-bit quarters of the half."""
    masks: tuple[int, int]
    """Bits of each quarter that belong to the key."""

    @property
    def mask(self) -> np.uint64:
        pairs = zip(self.quarters, self.masks, strict=True)
        return np.uint64(sum(mask << (quarter * _QUARTER_BITS) for quarter, mask in pairs))

    def order(self, quarter_4H: list[NDArray[np.uint16]]) -> Pairs:
        """Indices that sort the hashes by the key: a radix sort, as numpy sorts 16-bit numbers in linear time."""
        low, high = (_packed(mask)[quarter_4H[one]] for one, mask in zip(self.quarters, self.masks, strict=True))
        width = self.masks[0].bit_count()
        if width + self.masks[1].bit_count() <= _QUARTER_BITS:
            return np.argsort(low | (high << np.uint16(width)), kind="stable")
        first = np.argsort(low, kind="stable")
        return first[np.argsort(high[first], kind="stable")]


def _distinct_pairs(hash_H: Hashes, max_bits: int, cut: Cut, wide: bool) -> Iterator[tuple[Pairs, Pairs]]:
    """Yields each pair of distinct hashes once, under the first of its keys."""
    quarter_4H = [(hash_H >> np.uint64(_QUARTER_BITS * each)).astype(np.uint16) for each in range(4)]
    keys = _keys(wide)
    masks = np.array([key.mask for key in keys])
    for number, key in enumerate(keys):
        order = key.order(quarter_4H)
        for i, j in _close(hash_H[order], masks[number], max_bits, cut):
            i, j = order[i], order[j]
            unequal = hash_H[i] ^ hash_H[j]
            new = ((unequal[:, None] & masks[:number]) != 0).all(axis=1)
            if new.any():
                yield i[new], j[new]


def _close(sorted_H: Hashes, mask: np.uint64, max_bits: int, cut: Cut) -> Iterator[tuple[Pairs, Pairs]]:
    """Positions of near hashes among the neighbours with an equal key."""
    changes = np.flatnonzero((sorted_H[1:] ^ sorted_H[:-1]) & mask) + 1
    start_R = np.concatenate([[0], changes])
    length_R = np.diff(start_R, append=len(sorted_H))
    over = np.maximum(length_R - 1 - MAX_BUCKET, 0)
    cut.pairs += int((over * (over + 1) // 2).sum())
    # As far as most hashes have a neighbour, all are compared in the order of memory: a gather costs ten times more.
    steps = min(int(length_R.mean()), MAX_BUCKET) if len(sorted_H) else 0
    for begin in range(0, len(sorted_H), _CHUNK):
        chunk = sorted_H[begin : begin + _CHUNK + steps]
        for step in range(1, min(steps, len(chunk) - 1) + 1):
            here = chunk[: min(_CHUNK, len(chunk) - step)]
            there = chunk[step : step + len(here)]
            near = np.flatnonzero(distance(here, there) <= max_bits)
            near = near[(here[near] ^ there[near]) & mask == 0]
            if len(near):
                yield near + begin, near + begin + step
    long_R = length_R > steps + 1
    yield from _far_neighbours(sorted_H, start_R[long_R], length_R[long_R], steps, max_bits)


def _far_neighbours(
    sorted_H: Hashes, start_R: Pairs, length_R: Pairs, steps: int, max_bits: int
) -> Iterator[tuple[Pairs, Pairs]]:
    """The same for the runs longer than most, from `steps` + 1 places apart."""
    count_R = np.maximum(length_R - steps - 1, 0)
    within = np.arange(int(count_R.sum())) - np.repeat(np.cumsum(count_R) - count_R, count_R)
    at, left = np.repeat(start_R, count_R) + within, np.repeat(count_R, count_R) - within
    for step in range(steps + 1, MAX_BUCKET + 1):
        if not len(at):
            return
        near = at[distance(sorted_H[at], sorted_H[at + step]) <= max_bits]
        if len(near):
            yield near, near + step
        more = left > step - steps
        at, left = at[more], left[more]


@cache
def _keys(wide: bool) -> tuple[_Key, ...]:
    blocks = (3, 3, 3, 3, 4) if wide else (4, 4, 4, 4)
    edges = np.cumsum((0, *blocks))
    block_masks = [(1 << int(end)) - (1 << int(begin)) for begin, end in pairwise(edges)]
    num = len(blocks)
    found = []
    for quarters in ((0, 1), (2, 3)):
        for touched in _quadruples(2 * num):
            free = set(range(2 * num)) - set(touched)
            masks = [
                sum(block_masks[each - first] for each in free if first <= each < first + num) for first in (0, num)
            ]
            found.append(_Key(quarters, (masks[0], masks[1])))
    return tuple(found)


def _quadruples(points: int) -> list[tuple[int, ...]]:
    """A Steiner quadruple system: every 3 points lie in exactly one of its sets of 4 (Hanani 1960)."""
    if points == 8:
        return sorted({tuple(sorted((a, b, c, a ^ b ^ c))) for a, b, c in combinations(range(8), 3)})
    # The one system on ten points, from three sets and their rotations.
    first = ((0, 1, 3, 4), (0, 1, 2, 6), (0, 2, 4, 7))
    return sorted({tuple(sorted((each + turn) % 10 for each in one)) for one in first for turn in range(10)})


@cache
def _packed(mask: int) -> NDArray[np.uint16]:
    """For each 16-bit number its bits under the mask, moved together."""
    numbers = np.arange(1 << _QUARTER_BITS, dtype=np.uint32)
    packed = np.zeros_like(numbers)
    for place, bit in enumerate(bit for bit in range(_QUARTER_BITS) if mask >> bit & 1):
        packed |= (numbers >> np.uint32(bit) & np.uint32(1)) << np.uint32(place)
    return packed.astype(np.uint16)
