"""Whether one model differs from another on the same images by more than chance.

Letters: N images, D resamples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class PairedComparison:
    images: int
    only_challenger_correct: int
    only_champion_correct: int
    accuracy_difference: float
    """Challenger minus champion."""

    def interval(self, confidence: float) -> Interval:
        """Interval of the difference, each of whose ends holds with this confidence: a shifted exact McNemar test.

        The test tosses a coin for each image that only one of the two predicts correctly; here the tosses lie around
        the observed difference. So the interval excludes zero exactly where the one-sided test is significant.
        """
        # Takes a second to import, which a run that reuses everything need not pay.
        from scipy.stats import binom

        tosses = self.only_challenger_correct + self.only_champion_correct
        if not tosses:
            return (0.0, 0.0)
        reach = float(2 * binom.ppf(confidence, tosses, 0.5) - tosses) / self.images
        return self.accuracy_difference - reach, self.accuracy_difference + reach


def compare_paired(challenger_correct_N: NDArray[np.bool_], champion_correct_N: NDArray[np.bool_]) -> PairedComparison:
    won = int((challenger_correct_N & ~champion_correct_N).sum())
    lost = int((champion_correct_N & ~challenger_correct_N).sum())
    images = len(challenger_correct_N)
    return PairedComparison(images, won, lost, (won - lost) / images if images else 0.0)


def resampled_interval(difference: float, difference_D: NDArray[np.floating[Any]], *, confidence: float) -> Interval:
    """Interval of a difference of scores from paired resamples, each of whose ends holds with this confidence.

    The resamples are shifted so that their median is the difference, since a resample adds noise, for example to a
    calibration error. NaN where no resample defines it.
    """
    known_D = difference_D[~np.isnan(difference_D)]
    if not len(known_D):
        return (float("nan"), float("nan"))
    low, middle, high = np.quantile(known_D, [1 - confidence, 0.5, confidence])
    return difference + float(low - middle), difference + float(high - middle)
