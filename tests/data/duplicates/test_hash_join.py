"""The join finds exactly what comparing all pairs finds, however the hashes crowd."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from components.data.duplicates import hash_join
from components.data.duplicates.finder import clusters
from components.data.duplicates.hash_join import Cut, candidate_pairs
from components.data.images.perceptual_hash import distance


def planted(num: int, seed: int) -> NDArray[np.uint64]:
    """Random hashes and copies of them with 0 to 9 bits flipped."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 1 << 64, num, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in random.choice(64, each % 10, replace=False)) for each in range(num)]
    return np.concatenate([hashes, hashes ^ np.array(flips, np.uint64)])


def crowded(num: int, seed: int) -> NDArray[np.uint64]:
    """Hashes that differ in 10 bits alone, so that every bucket is full."""
    return np.random.default_rng(seed).integers(0, 1 << 10, num).astype(np.uint64) << np.uint64(25)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("max_bits", [0, 3, 7])
@pytest.mark.parametrize("made", [planted, crowded])
def test_each_pair_that_comparing_all_pairs_finds_comes_once(made: object, max_bits: int, wide: bool) -> None:
    hashes, other = made(200, 7), np.concatenate([made(30, 7), made(200, 8)])  # type: ignore[operator]
    left, right = np.nonzero(np.triu(distance(hashes[:, None], hashes[None]) <= max_bits, 1))
    within = [
        tuple(sorted(pair))
        for batch in candidate_pairs(hashes, hashes, max_bits=max_bits, wide=wide)
        for pair in batch.tolist()
    ]
    assert sorted(within) == list(zip(left.tolist(), right.tolist(), strict=True))
    left, right = np.nonzero(distance(hashes[:, None], other[None]) <= max_bits)
    across = [
        tuple(pair) for batch in candidate_pairs(hashes, other, max_bits=max_bits, wide=wide) for pair in batch.tolist()
    ]
    assert sorted(across) == list(zip(left.tolist(), right.tolist(), strict=True))


@pytest.mark.parametrize("points", [8, 10])
def test_every_three_blocks_lie_in_one_quadruple(points: int) -> None:
    quadruples = hash_join._quadruples(points)
    for three in combinations(range(points), 3):
        assert sum(set(three) <= set(one) for one in quadruples) == 1


def test_a_cut_of_a_hot_bucket_is_counted_and_keeps_equal_hashes_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    equal = np.full(300, 5, np.uint64)
    cut = Cut()
    pairs = np.concatenate(list(candidate_pairs(equal, equal, max_bits=7, cut=cut)))
    assert cut.pairs > 0
    assert len(pairs) < 300 * 100
    assert clusters(300, pairs).max() == 0

    monkeypatch.setattr(hash_join, "MAX_BUCKET", 3)
    cut = Cut()
    list(candidate_pairs(crowded(40, 1), crowded(40, 1), max_bits=7, cut=cut))
    assert cut.pairs > 0


def test_images_that_come_later_take_no_pair_of_earlier_ones_away() -> None:
    """Of one hash, and of hashes near to each other, more than are all compared."""
    random = np.random.default_rng(4)
    left, right = (random.choice(np.array([5, 7, 1 << 60], np.uint64), 400, p=[0.6, 0.3, 0.1]) for _ in range(2))
    cut = Cut()
    for first, second in ((left, left), (left, right)):
        before: set[tuple[int, ...]] = set()
        for num in (100, 101, 200, 400):
            ends = first[:num], (second[:num] if second is not first else first[:num])
            within = first is second
            now = pairs_of(ends[0], ends[0] if within else ends[1], cut)
            assert before <= now
            before = now
    assert cut.pairs > 0


def pairs_of(left: NDArray[np.uint64], right: NDArray[np.uint64], cut: Cut) -> set[tuple[int, ...]]:
    found = np.concatenate(list(candidate_pairs(left, right, max_bits=7, cut=cut)))
    ordered = np.sort(found, axis=1) if left is right else found
    assert len(np.unique(ordered, axis=0)) == len(found)
    return set(map(tuple, ordered.tolist()))


def test_what_is_cut_is_all_that_lacks() -> None:
    cut = Cut()
    equal = np.full(200, 5, np.uint64)
    assert len(pairs_of(equal, equal, cut)) + cut.pairs == 200 * 199 // 2
    cut = Cut()
    assert len(pairs_of(equal, np.full(90, 5, np.uint64), cut)) + cut.pairs == 200 * 90
    cut = Cut()
    pairs_of(equal[:64], equal[:64], cut)
    assert cut.pairs == 0


def test_no_hashes_make_no_pairs() -> None:
    nothing = np.empty(0, np.uint64)
    assert sum(map(len, candidate_pairs(nothing, nothing, max_bits=7))) == 0
