"""How a data version is distributed, small enough to keep, and how far another one lies from it."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.labels import counted_names

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = (
    "width_px",
    "height_px",
    "aspect",
    "brightness",
    "contrast",
    "sharpness",
    "entropy_bits",
    "colourfulness",
    "size_bytes",
)
NAMES = ("mode", "format", "label")
_QUANTILES = 1001
_BINS = 10
_CHANCE = 0.999
"""Share of the samples of one and the same distribution that stay under the margin which is granted to chance."""

Profile = dict[str, Any]
"""num_images; `numbers`: 1,001 quantiles of each measured column; `names`: how often each value occurs, of sets of
labels each label."""


def profile_of(images: "pd.DataFrame") -> Profile:
    levels = np.linspace(0, 1, _QUANTILES)
    numbers = {
        name: np.quantile(images[name].to_numpy(np.float64), levels, method="inverted_cdf").tolist()
        for name in NUMBERS
        if name in images and len(images)
    }
    names = {name: dict(sorted(_counts(images, name).items())) for name in NAMES if name in images}
    return {"num_images": len(images), "numbers": numbers, "names": names}


def _counts(images: "pd.DataFrame", name: str) -> Counter[str]:
    """How often each value occurs; an image with a set of labels counts for each of them, as in the class rules."""
    if name != "label" or "labels" not in images:
        return Counter(map(str, images[name]))
    pairs = zip(images["label"], images["labels"], strict=True)
    return Counter(one for label, labels in pairs for one in counted_names(label, labels))


def drift(found: Profile, accepted: Profile) -> dict[str, float]:
    """For each column of both the population stability index beyond chance: 0 the same, above 0.25 another population.

    The index is the sum over bins of (p - q) log(p / q). Under one distribution it is about chi-squared with bins - 1
    degrees of freedom, times 1/n + 1/m (Yurdakul 2018, "Statistical Properties of Population Stability Index").
    """
    sizes = (int(found["num_images"]), int(accepted["num_images"]))
    if min(sizes) == 0:
        return {}
    far = {}
    for name in accepted["numbers"].keys() & found["numbers"].keys():
        old, new = (np.asarray(one["numbers"][name]) for one in (accepted, found))
        inner = np.quantile(old, np.linspace(0, 1, _BINS + 1), method="inverted_cdf")
        # Values under the smallest and over the largest get bins of their own, so that a constant can drift, too.
        edges = np.unique([np.nextafter(old[0], -np.inf), *inner])
        p, q = (np.bincount(np.searchsorted(edges, one), minlength=len(edges) + 1) / len(one) for one in (new, old))
        far[name] = _beyond_chance(p, q, *sizes)
    for name in accepted["names"].keys() & found["names"].keys():
        before, now = accepted["names"][name], found["names"][name]
        values = sorted(before.keys() | now.keys())
        p, q = (np.array([counts.get(value, 0) for value in values]) / sum(counts.values()) for counts in (now, before))
        far[name] = _beyond_chance(p, q, *sizes)
    return dict(sorted(far.items()))


def _beyond_chance(new: NDArray[np.float64], old: NDArray[np.float64], num_new: int, num_old: int) -> float:
    from scipy.stats import chi2

    used = (new + old) > 0
    # Half an image in every bin: an empty one would make the index infinite.
    p, q = ((share[used] * n + 0.5) / (n + 0.5 * used.sum()) for share, n in ((new, num_new), (old, num_old)))
    index = float(((p - q) * np.log(p / q)).sum())
    margin = float(chi2.ppf(_CHANCE, max(1, int(used.sum()) - 1))) * (1 / num_new + 1 / num_old)
    return max(0.0, index - margin)
