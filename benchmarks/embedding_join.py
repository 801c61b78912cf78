"""Time of finding all pairs of embeddings above a cosine, beside comparing every pair block by block.

    OMP_NUM_THREADS=1 python benchmarks/embedding_join.py [FEATURES.npy] [--images 20000] [--similarity 0.9 0.95 0.99]
        [--rounds 5] [--alone]

The features are any array of a row an image, as `darkroom features` and the validate stage make them (embeddings.npy);
without a file, 128 numbers each are drawn around 1,000 centres. Images are taken evenly. Both sides run in turns, on
the same unit vectors, and have to find the same pairs. `--alone` leaves the peer out, which takes hours for 10⁶.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from side_by_side import compare, machine, ratio_range

from components.data.duplicates.embedding_join import TIE, JoinCounts, close_pairs

_BLOCK = 4096
_OURS, _PEER = "join", "every pair"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--similarity", type=float, nargs="+", default=[0.9, 0.95, 0.99])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true")
    flags = parser.parse_args()
    vectors = from_file(flags.features, flags.images) if flags.features else drawn(flags.images)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    print(f"{len(vectors):,} embeddings of {vectors.shape[1]} numbers\n")
    print("| cosine from | pairs | short products | whole products | CPU-s | CPU-s of every pair | times as fast |")
    print("|---|---|---|---|---|---|---|")
    for similarity in flags.similarity:
        print(row(vectors, similarity, flags.rounds, alone=flags.alone), flush=True)
    print(f"\n{machine('numpy')}")


def row(vectors: np.ndarray, similarity: float, rounds: int, *, alone: bool) -> str:
    compared = JoinCounts()
    found = joined(vectors, similarity, compared)
    sides = {_OURS: partial(joined, vectors, similarity)}
    if not alone:
        same(vectors, found, every_pair(vectors, similarity), similarity)
        sides[_PEER] = partial(every_pair, vectors, similarity)
    timings = compare(sides, rounds=rounds, warm=False)
    cpu = [f"{median(timings[side].cpu_s):.2f}" if side in timings else "" for side in (_OURS, _PEER)]
    faster = "" if alone else ratio_range(timings[_PEER].cpu_s, timings[_OURS].cpu_s)
    every = len(vectors) * (len(vectors) - 1) / 2
    shares = [f"{part / every:.2%}" for part in (compared.short, compared.whole)]
    return f"| {' | '.join([f'{similarity:g}', f'{len(found):,}', *shares, *cpu, faster])} |"


def from_file(file: Path, num: int) -> np.ndarray:
    features = np.load(file, mmap_mode="r")
    return np.array(features[np.linspace(0, len(features) - 1, min(num, len(features))).astype(np.int64)])


def drawn(num: int) -> np.ndarray:
    random = np.random.default_rng(7)
    centres = random.normal(size=(1000, 16)) @ random.normal(size=(16, 128))
    return (centres[random.integers(0, 1000, num)] + random.normal(size=(num, 128))).astype(np.float32)


def joined(vectors: np.ndarray, similarity: float, compared: JoinCounts | None = None) -> np.ndarray:
    return in_order(list(close_pairs(vectors, min_cosine=similarity, compared=compared)))


def every_pair(vectors: np.ndarray, similarity: float) -> np.ndarray:
    found = []
    for top in range(0, len(vectors), _BLOCK):
        for left in range(top, len(vectors), _BLOCK):
            cosine = vectors[top : top + _BLOCK] @ vectors[left : left + _BLOCK].T
            i, j = np.nonzero(cosine >= similarity - TIE)
            pairs = np.stack([i + top, j + left], axis=1)
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return in_order(found)


def in_order(found: list[np.ndarray]) -> np.ndarray:
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def same(vectors: np.ndarray, ours: np.ndarray, theirs: np.ndarray, similarity: float) -> None:
    """Stops unless both found the same, but for pairs so near to the bound that the last bits of a block decide."""
    other = np.array(sorted(set(map(tuple, ours.tolist())) ^ set(map(tuple, theirs.tolist())))).reshape(-1, 2)
    exact = np.einsum("pf,pf->p", *vectors[other.T.astype(np.int64)].astype(np.float64))
    assert (np.abs(exact - similarity) < 2 * TIE).all(), "the sides found different pairs"


if __name__ == "__main__":
    main()
