"""Whether one model is worse than another on the same images, or merely unlucky."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PairedComparison:
    images: int
    only_challenger_right: int
    only_champion_right: int
    accuracy_difference: float
    """Challenger minus champion."""
    p_worse: float
    """Exact one-sided McNemar test (McNemar 1947): how probable so many lost images are if both are equally good."""


def compare_paired(challenger_right_N: NDArray[np.bool_], champion_right_N: NDArray[np.bool_]) -> PairedComparison:
    # Takes a second to import, which a run that reuses everything need not pay.
    from scipy.stats import binomtest

    won = int((challenger_right_N & ~champion_right_N).sum())
    lost = int((champion_right_N & ~challenger_right_N).sum())
    p_worse = float(binomtest(lost, won + lost, alternative="greater").pvalue) if won + lost else 1.0
    images = len(challenger_right_N)
    return PairedComparison(images, won, lost, (won - lost) / images if images else 0.0, p_worse)
