"""Whether one model differs from another on the same images, or was merely lucky.

Letters: N images, D draws.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class PairedComparison:
    images: int
    only_challenger_right: int
    only_champion_right: int
    accuracy_difference: float
    """Challenger minus champion."""

    def interval(self, confidence: float) -> Interval:
        """Of the difference, each end as sure as asked for: the exact McNemar test (McNemar 1947), shifted.

        That tosses a coin for each image that only one of the two gets right; here the tosses lie around the
        difference that was found. So it leaves out zero exactly where the one-sided test tells the two apart.
        """
        # Takes a second to import, which a run that reuses everything need not pay.
        from scipy.stats import binom

        tosses = self.only_challenger_right + self.only_champion_right
        if not tosses:
            return (0.0, 0.0)
        reach = float(2 * binom.ppf(confidence, tosses, 0.5) - tosses) / self.images
        return self.accuracy_difference - reach, self.accuracy_difference + reach


def compare_paired(challenger_right_N: NDArray[np.bool_], champion_right_N: NDArray[np.bool_]) -> PairedComparison:
    won = int((challenger_right_N & ~champion_right_N).sum())
    lost = int((champion_right_N & ~challenger_right_N).sum())
    images = len(challenger_right_N)
    return PairedComparison(images, won, lost, (won - lost) / images if images else 0.0)


def drawn_interval(difference: float, drawn_D: NDArray[np.floating[Any]], *, confidence: float) -> Interval:
    """Of a difference of scores from paired draws of it, each end as sure as asked for.

    The draws are moved so that their median is the difference: a draw adds noise to a calibration error, for one. NaN
    where no draw defines it.
    """
    known_D = drawn_D[~np.isnan(drawn_D)]
    if not len(known_D):
        return (float("nan"), float("nan"))
    low, middle, high = np.quantile(known_D, [1 - confidence, 0.5, confidence])
    return difference + float(low - middle), difference + float(high - middle)
