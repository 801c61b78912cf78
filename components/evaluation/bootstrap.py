"""How far a score would move with other test images: percentiles over resamples of the test split.

The plain bootstrap (Efron 1979): each resample takes as many images as there are, with replacement, from all of them;
it is not stratified, so the frequency of each class varies too. A resample is how often each image counts, and scores
are sums over images, so nothing is predicted, sorted or copied again.

Letters: N images, D resamples, M scores, K classes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_BLOCK_BYTES = 64e6
_DECIMALS = 9
"""Sums over images in another order differ in the last bits."""

Interval = tuple[float, float]


def resamples(num_images: int, *, count: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Blocks [D, N] of how often each image counts; the same whatever the size of the blocks."""
    rows = max(1, int(_BLOCK_BYTES / (8 * num_images)))
    for first in range(0, count, rows):
        yield np.stack([_resample(num_images, [seed, number]) for number in range(first, min(count, first + rows))])


def _resample(num_images: int, seed: list[int]) -> NDArray[np.float64]:
    chosen = np.random.default_rng(seed).integers(0, num_images, num_images)
    return np.bincount(chosen, minlength=num_images).astype(np.float64)


def intervals(value_DM: NDArray[np.floating[Any]]) -> list[Interval]:
    """The middle 95% of the resamples for each score; NaN where a score is defined in none of them."""
    edges = [100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2]
    low_M, high_M = np.percentile(value_DM, edges, axis=0)
    for index in np.flatnonzero(np.isnan(low_M)):
        known = value_DM[~np.isnan(value_DM[:, index]), index]
        if len(known):
            low_M[index], high_M[index] = np.percentile(known, edges)
    return [
        (round(float(low), _DECIMALS), round(float(high), _DECIMALS)) for low, high in zip(low_M, high_M, strict=True)
    ]


def fraction_interval(successes: int, images: int) -> Interval:
    """95% interval of a fraction of images (Wilson 1927): of few images better than resampling them."""
    from scipy.stats import binomtest

    found = binomtest(successes, images).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
