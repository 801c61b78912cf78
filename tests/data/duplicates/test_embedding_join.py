"""The join of vectors leaves comparisons out, never a pair."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from components.data.duplicates import embedding_join
from components.data.duplicates.embedding_join import TIE, JoinCounts, close_pairs, similar_pairs
from components.shared.errors import SettingsError

Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.float64]) -> Vectors:
    pointing: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return pointing


def joined(vectors: Vectors, min_cosine: float, compared: JoinCounts | None = None) -> list[list[int]]:
    batches = close_pairs(vectors, min_cosine=min_cosine, compared=compared)
    return sorted(pair for pairs in batches for pair in pairs.tolist())


def by_force(vectors: Vectors, min_cosine: float) -> list[list[int]]:
    exact = vectors.astype(np.float64)
    found: list[list[int]] = np.argwhere(np.triu(exact @ exact.T >= min_cosine - TIE, 1)).tolist()
    return found


def everywhere(random: np.random.Generator, num: int, numbers: int) -> Vectors:
    return unit(random.normal(size=(num, numbers)))


def clustered(random: np.random.Generator, num: int, numbers: int, spread: float = 0.15) -> Vectors:
    """About ten around each of the centres, which lie near to few directions, as the embeddings of networks do."""
    centres = random.normal(size=(num // 10, 8)) @ random.normal(size=(8, numbers))
    noise = random.normal(size=(num, numbers)) * spread * 8**0.5
    return unit(centres[random.integers(0, len(centres), num)] + noise)


def copied(random: np.random.Generator, num: int, numbers: int) -> Vectors:
    """Many of the very same, a quarter of them of one, and opposite ones."""
    few = unit(random.normal(size=(num // 20, numbers)))
    source = random.integers(0, len(few), num)
    source[: num // 4] = 0
    many: Vectors = few[source] * random.choice(np.array([1, -1], np.float32), (num, 1))
    return many


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few vectors go all ways."""
    monkeypatch.setattr(embedding_join, "_BLOCK", 50)
    monkeypatch.setattr(embedding_join, "_FEW", 100)
    monkeypatch.setattr(embedding_join, "_SAMPLE", 128)


@pytest.mark.parametrize("min_cosine", [0.3, 0.8, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("numbers", [3, 40, 300])
@pytest.mark.parametrize("distribution", [everywhere, clustered, copied])
@pytest.mark.usefixtures("small_blocks")
def test_no_pair_is_lost_and_none_comes_twice(
    distribution: Callable[[np.random.Generator, int, int], Vectors], numbers: int, min_cosine: float
) -> None:
    for seed in range(2):
        vectors = distribution(np.random.default_rng([seed, numbers]), 400, numbers)
        assert joined(vectors, min_cosine) == by_force(vectors, min_cosine)


@pytest.mark.parametrize("num", [0, 1, 2, 101])
@pytest.mark.usefixtures("small_blocks")
def test_few_or_equal_vectors_are_pairs_too(num: int) -> None:
    vectors = np.tile(unit(np.ones((1, 40))), (num, 1))
    assert len(joined(vectors, 1.0)) == num * (num - 1) // 2


@pytest.mark.usefixtures("small_blocks")
def test_a_pair_at_the_very_bound_is_found_at_any_index() -> None:
    """Pairs a hair above and below the bound: blocks round otherwise, the answer doesn't."""
    random = np.random.default_rng(5)
    start = unit(random.normal(size=(300, 64))).astype(np.float64)
    aside = random.normal(size=start.shape)
    aside = unit(aside - (aside * start).sum(axis=1, keepdims=True) * start).astype(np.float64)
    cosine = 0.95 - TIE + random.uniform(-TIE / 5, TIE / 5, (300, 1))
    vectors = unit(np.concatenate([start, cosine * start + np.sqrt(1 - cosine**2) * aside]))
    wanted = by_force(vectors, 0.95)
    assert 50 < len(wanted) < 300
    assert joined(vectors, 0.95) == wanted


def test_clustered_vectors_are_compared_with_few_others() -> None:
    vectors = clustered(np.random.default_rng(2), 4000, 128, spread=0.1)
    compared = JoinCounts()
    found = joined(vectors, 0.97, compared)
    every = len(vectors) * (len(vectors) - 1) / 2
    assert found == by_force(vectors, 0.97)
    assert compared.short < 0.1 * every
    assert compared.whole < 0.02 * every


def test_where_nothing_can_be_left_out_all_are_compared_once() -> None:
    vectors = everywhere(np.random.default_rng(3), 4096, 64)
    compared = JoinCounts()
    joined(vectors, 0.3, compared)
    assert compared.short == 0
    assert compared.whole <= 1.6 * 4096**2 / 2


def test_the_search_reports_its_progress() -> None:
    events: list[tuple[str, int, int | None]] = []
    vectors = clustered(np.random.default_rng(2), 3000, 64)
    list(close_pairs(vectors, min_cosine=0.97, progress=lambda *event: events.append(event)))
    assert {task for task, _, _ in events} == {"group embeddings", "compare embeddings"}
    assert events[-1] == ("compare embeddings", 3000, 3000)


def test_the_pairs_are_numbered_as_the_images_are() -> None:
    vectors = np.eye(6, dtype=np.float32)
    vectors[0], vectors[3], vectors[5] = 0, np.nan, vectors[2] * 5
    assert similar_pairs(vectors, min_similarity=0.9).tolist() == [[2, 5]]


def test_a_model_that_takes_all_for_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_join, "_FEW_PAIRS", 0)
    with pytest.raises(SettingsError, match=r"min_similarity: 0\.9 makes more than 100 pairs per image; raise it"):
        similar_pairs(np.ones((300, 4), np.float32), min_similarity=0.9)
