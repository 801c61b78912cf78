"""How a data version is distributed, small enough to keep, and how far another one lies from it."""

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
"""Share of the samples of one and the same distribution that stay under the margin which is granted to chance."""

Profile = dict[str, Any]
"""num_images; `numbers`: 1,001 quantiles of each measured column; `names`: how often each value occurs, of sets of
labels each label."""


def read_profile(file: Path) -> Profile:
    """What `darkroom set-baseline` wrote; raises DataError where it isn't whole, as where a merge left its marks."""
    try:
        profile = read_json(file)
    except ValueError:
        profile = None
    if not isinstance(profile, dict) or not {"num_images", "numbers", "names"} <= profile.keys():
        raise DataError(
            f"{file}: isn't what `darkroom set-baseline` wrote; restore it from git, or delete it and accept anew"
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
    """What each image counts for: the column's value; of a set of labels each of them, as in the class rules."""
    if column != "label" or "labels" not in images:
        return zip(map(str, images[column]))
    return map(counted_names, images["label"], images["labels"])


def drift(found: Profile, baseline: Profile) -> dict[str, float]:
    """For each column of both the population stability index beyond chance: 0 the same, above 0.25 another population.

    The index is the sum over bins of (p - q) log(p / q). Under one distribution it is about chi-squared with bins - 1
    degrees of freedom, times 1/n + 1/m (Yurdakul 2018, "Statistical Properties of Population Stability Index").
    """
    sizes = (int(found["num_images"]), int(baseline["num_images"]))
    if min(sizes) == 0:
        return {}
    far = {}
    for name in baseline["numbers"].keys() & found["numbers"].keys():
        old, new = (np.asarray(one["numbers"][name]) for one in (baseline, found))
        edges = _edges(old)
        p, q = (_shares(edges, one) for one in (new, old))
        far[name] = _beyond_chance(p, q, *sizes)
    for name in baseline["names"].keys() & found["names"].keys():
        before, now = baseline["names"][name], found["names"][name]
        values = sorted(before.keys() | now.keys())
        p, q = (np.array([counts.get(value, 0) for value in values]) / sum(counts.values()) for counts in (now, before))
        far[name] = _beyond_chance(p, q, *sizes)
    return dict(sorted(far.items()))


@dataclass(frozen=True)
class Growth:
    """A range or a name in a column that more of the images have than of the baseline."""

    title: str
    rows: list[int]


def grown(images: "pd.DataFrame", baseline: Profile, column: str, *, most: int) -> list[Growth]:
    """Where the column of both has grown, in share of the images: the most so first."""
    places: Iterable[Sequence[Any]]
    if column in baseline["numbers"]:
        old = np.asarray(baseline["numbers"][column])
        edges = _edges(old)
        titles: dict[Any, str] = dict(enumerate(_titles(edges)))
        before: dict[Any, float] = dict(enumerate(_shares(edges, old).tolist()))
        places = zip(np.searchsorted(edges, images[column].to_numpy(np.float64)).tolist())
    else:
        counts = baseline["names"][column]
        titles = {}
        before = {name: count / sum(counts.values()) for name, count in counts.items()}
        places = names_of(images, column)
    rows: defaultdict[Any, list[int]] = defaultdict(list)
    for row, found in enumerate(places):
        for place in found:
            rows[place].append(row)
    total = sum(map(len, rows.values()))
    shares = {place: (len(found) / total, before.get(place, 0.0)) for place, found in rows.items()}
    more = [place for place, (now, then) in shares.items() if now > then]
    more.sort(key=lambda place: shares[place][1] - shares[place][0])
    return [
        Growth(f"{column} {titles.get(place, place)}: {now:.1%} of the images, {then:.1%} of the baseline", rows[place])
        for place in more[:most]
        for now, then in [shares[place]]
    ]


def _edges(old: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values under the smallest and over the largest get bins of their own, so that a constant can drift, too."""
    inner = np.quantile(old, np.linspace(0, 1, _BINS + 1), method="inverted_cdf")
    return np.unique([np.nextafter(old[0], -np.inf), *inner])


def _titles(edges: NDArray[np.float64]) -> list[str]:
    """Of each bin; the second one holds the smallest of the baseline values alone."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(edges[1:])]
    return [f"below {edges[1]:g}", f"{edges[1]:g}", *between, f"above {edges[-1]:g}"]


def _shares(edges: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the values, in each bin."""
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) / len(values)


def _beyond_chance(new: NDArray[np.float64], old: NDArray[np.float64], num_new: int, num_old: int) -> float:
    from scipy.stats import chi2

    used = (new + old) > 0
    # Half an image in every bin: an empty one would make the index infinite.
    p, q = ((share[used] * n + 0.5) / (n + 0.5 * used.sum()) for share, n in ((new, num_new), (old, num_old)))
    index = float(((p - q) * np.log(p / q)).sum())
    margin = float(chi2.ppf(_CHANCE, max(1, int(used.sum()) - 1))) * (1 / num_new + 1 / num_old)
    return max(0.0, index - margin)
