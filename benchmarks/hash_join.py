"""Time and memory of joining random 64-bit hashes within 7 bits, and that no planted pair is missed.

    OMP_NUM_THREADS=1 python benchmarks/hash_join.py [250000 1000000] [--wide]

No peer finishes this (imagededup compares all pairs). Aim: 15 CPU-seconds at 10⁶,
and less than 8 times the CPU-seconds of a quarter as many. `--wide` takes the keys of large sets.
"""

import resource
import sys
import time
from statistics import median

import numpy as np
from side_by_side import machine

from components.data.duplicates.hash_join import candidate_pairs
from components.data.images.perceptual_hash import distance

_PLANTED = 1000
_ROUNDS = 5


def main() -> None:
    wide = True if "--wide" in sys.argv else None
    counts = [int(text) for text in sys.argv[1:] if text.isdigit()] or [250_000, 1_000_000]
    seconds = [median(join(count, wide) for _ in range(_ROUNDS)) for count in counts]
    if len(seconds) > 1:
        print(f"ratio of the medians {seconds[-1] / seconds[0]:.1f}")
    print(machine("numpy"))


def join(num_hashes: int, wide: bool | None) -> float:
    """CPU-seconds; prints the figures."""
    random = np.random.default_rng(7)
    hashes = random.integers(0, 1 << 64, num_hashes, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in random.choice(64, 7, replace=False)) for _ in range(_PLANTED)]
    hashes[-_PLANTED:] = hashes[:_PLANTED] ^ np.array(flips, np.uint64)
    cpu, wall = time.process_time(), time.perf_counter()
    pairs = np.concatenate(list(candidate_pairs(hashes, hashes, max_bits=7, wide=wide)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    wanted = set(zip(range(_PLANTED), range(num_hashes - _PLANTED, num_hashes), strict=True))
    hit = len(wanted & set(map(tuple, pairs.tolist())))
    assert distance(hashes[pairs[:, 0]], hashes[pairs[:, 1]]).max() <= 7
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{num_hashes} hashes: {cpu:.1f} CPU-s, {wall:.1f} s, peak {peak:.0f} MiB; "
        f"{len(pairs)} pairs; {hit} of {_PLANTED} planted"
    )
    return cpu


if __name__ == "__main__":
    main()
