"""The profile of a data version: a small summary of its distributions, and how far another version drifts from it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.shared.errors import DataError
from components.shared.files import read_json
from components.task.label_text import counted_names

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
"""Fraction of samples of one distribution whose index stays within the margin for chance."""

Profile = dict[str, Any]
"""num_images; `numbers`: 1,001 quantiles of each measured column; `names`: the count of each value, in multi-label data
of each label."""


def read_profile(file: Path) -> Profile:
    """The profile that `darkroom set-baseline` wrote; raises DataError where it is damaged, as by merge markers."""
    try:
        profile = read_json(file)
    except ValueError:
        profile = None
    if not isinstance(profile, dict) or not {"num_images", "numbers", "names"} <= profile.keys():
        raise DataError(
            f"{file}: isn't what `darkroom set-baseline` wrote; restore it from git, or delete it and run "
            "`darkroom set-baseline` again"
        )
    return profile


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
    return Counter(chain.from_iterable(names_of(images, name)))


def names_of(images: "pd.DataFrame", column: str) -> Iterable[Sequence[str]]:
    """The values for which each image counts: that of the column; in multi-label data each label, as in class rules."""
    if column != "label" or "labels" not in images:
        return zip(map(str, images[column]))
    return map(counted_names, images["label"], images["labels"])


def drift(found: Profile, baseline: Profile) -> dict[str, float]:
    """Population stability index beyond chance of each common column: 0 is the same, above 0.25 another population.

    The index is the sum over bins of (p - q) log(p / q). For samples of one distribution it is about chi-squared with
    bins - 1 degrees of freedom, times 1/n + 1/m (Yurdakul 2018, "Statistical Properties of Population Stability
    Index").
    """
    sizes = (int(found["num_images"]), int(baseline["num_images"]))
    if min(sizes) == 0:
        return {}
    index_of = {}
    for name in baseline["numbers"].keys() & found["numbers"].keys():
        old, new = (np.asarray(one["numbers"][name]) for one in (baseline, found))
        edges = _edges(old)
        p, q = (_fractions(edges, one) for one in (new, old))
        index_of[name] = _beyond_chance(p, q, *sizes)
    for name in baseline["names"].keys() & found["names"].keys():
        before, now = baseline["names"][name], found["names"][name]
        values = sorted(before.keys() | now.keys())
        p, q = (np.array([counts.get(value, 0) for value in values]) / sum(counts.values()) for counts in (now, before))
        index_of[name] = _beyond_chance(p, q, *sizes)
    return dict(sorted(index_of.items()))


@dataclass(frozen=True)
class Growth:
    """A range or value of a column that is more frequent than in the baseline."""

    title: str
    rows: list[int]


def grown(images: "pd.DataFrame", baseline: Profile, column: str, *, most: int) -> list[Growth]:
    """Ranges or values of the column that are more frequent than in the baseline, the largest increase first."""
    bins_of_images: Iterable[Sequence[Any]]
    if column in baseline["numbers"]:
        old = np.asarray(baseline["numbers"][column])
        edges = _edges(old)
        titles: dict[Any, str] = dict(enumerate(_titles(edges)))
        before: dict[Any, float] = dict(enumerate(_fractions(edges, old).tolist()))
        bins_of_images = zip(np.searchsorted(edges, images[column].to_numpy(np.float64)).tolist())
    else:
        counts = baseline["names"][column]
        titles = {}
        before = {name: count / sum(counts.values()) for name, count in counts.items()}
        bins_of_images = names_of(images, column)
    rows: defaultdict[Any, list[int]] = defaultdict(list)
    for row, bins in enumerate(bins_of_images):
        for one in bins:
            rows[one].append(row)
    total = sum(map(len, rows.values()))
    fractions = {one: (len(own) / total, before.get(one, 0.0)) for one, own in rows.items()}
    more = [one for one, (now, then) in fractions.items() if now > then]
    more.sort(key=lambda one: fractions[one][1] - fractions[one][0])
    return [
        Growth(f"{column} {titles.get(one, one)}: {now:.1%} of the images, {then:.1%} of the baseline", rows[one])
        for one in more[:most]
        for now, then in [fractions[one]]
    ]


def _edges(old: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of the bins; values below the smallest and above the largest have their own: a constant can drift, too."""
    inner = np.quantile(old, np.linspace(0, 1, _BINS + 1), method="inverted_cdf")
    return np.unique([np.nextafter(old[0], -np.inf), *inner])


def _titles(edges: NDArray[np.float64]) -> list[str]:
    """Title of each bin; the second bin holds only the smallest value of the baseline."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(edges[1:])]
    return [f"below {edges[1]:g}", f"{edges[1]:g}", *between, f"above {edges[-1]:g}"]


def _fractions(edges: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fraction of the values in each bin."""
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) / len(values)


def _beyond_chance(new: NDArray[np.float64], old: NDArray[np.float64], num_new: int, num_old: int) -> float:
    from scipy.stats import chi2

    used = (new + old) > 0
    # Half an image in every bin: an empty one would make the index infinite.
    p, q = ((fraction[used] * n + 0.5) / (n + 0.5 * used.sum()) for fraction, n in ((new, num_new), (old, num_old)))
    index = float(((p - q) * np.log(p / q)).sum())
    margin = float(chi2.ppf(_CHANCE, max(1, int(used.sum()) - 1))) * (1 / num_new + 1 / num_old)
    return max(0.0, index - margin)
