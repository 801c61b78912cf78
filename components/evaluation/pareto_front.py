"""Which of several candidates no other one beats in everything.

Letters: C candidates, M measures.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def non_dominated(costs_CM: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Whether no other candidate is at least as good in every measure and better in one [C]; smaller is better."""
    no_worse_CC = (costs_CM[:, None] <= costs_CM[None]).all(axis=2)
    better_CC = (costs_CM[:, None] < costs_CM[None]).any(axis=2)
    return ~np.asarray((no_worse_CC & better_CC).any(axis=0), dtype=np.bool_)
