"""What can't be split: columns that are missing or contradict each other, and classes too small for the parts.

Letters: N images, S strata, P parts.
"""

import numpy as np

from components.data.split.assignment import NONE, Ints, present_in, spread
from components.data.split.names import PARTS
from components.data.split.strata import SplitImages
from components.shared.errors import DataError


def refuse_unfit(images: SplitImages, *, method: str, given_counts: bool) -> None:
    """Raises DataError where the method lacks the column that it needs, or groups contradict given parts that count."""
    for name, column, what in (("group", images.group, "a group"), ("given", images.given, "a given part")):
        lost = np.flatnonzero(column.code_N == NONE)
        if name == method and len(lost):
            raise DataError(
                f"split.method {method} needs {what} for each image; {images.path_of(lost[0])} has none "
                f"({len(lost)} of {len(images)} images); fill the column or choose another method"
            )
    if given_counts:
        _refuse_torn_groups(images)


def _refuse_torn_groups(images: SplitImages) -> None:
    """The user's own two columns contradict each other; duplicates across the given parts are no contradiction."""
    known = np.flatnonzero((images.group.code_N != NONE) & (images.given.code_N != NONE))
    given = np.full(len(images.group.names), NONE)
    given[images.group.code_N[known]] = images.given.code_N[known]
    torn = known[given[images.group.code_N[known]] != images.given.code_N[known]]
    if len(torn):
        group = images.group.code_N[torn[0]]
        parts = sorted(
            {images.given.names[code] for code in images.given.code_N[known][images.group.code_N[known] == group]}
        )
        num_torn = len(np.unique(images.group.code_N[torn]))
        raise DataError(
            f"group {images.group.names[group]} stands in {' and '.join(parts)} of the given split "
            f"({num_torn} such group{'s' if num_torn > 1 else ''}); "
            "make the two columns agree, or set split.given: ignore, which deals all images anew"
        )


def refuse_small_classes(images: SplitImages, part_N: Ints, cluster_N: Ints, *, num_parts: int, decided: bool) -> None:
    """Raises DataError for a class that can't be learnt; or judged, unless `decided`: by time, or by the author.

    `part_N` numbers the parts, train, val and test first; from `num_parts` on an image is in none.
    """
    present_SP = present_in(images, np.flatnonzero(part_N < num_parts), part_N, num_parts)
    needed = PARTS[:1] if decided else PARTS
    for part in PARTS:
        if not present_SP[:, PARTS.index(part)].any():
            raise DataError(
                f"no image is left for the {part} part; add images, change split.fractions, or set split.given: ignore"
            )
    lacking = np.flatnonzero((present_SP[:, : len(needed)] == 0).any(axis=1))
    if not len(lacking):
        return
    total_S = np.bincount(*_weighted_strata(images), minlength=len(present_SP))
    stratum = lacking[np.argmin(total_S[lacking])]
    part = next(part for at, part in enumerate(needed) if present_SP[stratum, at] == 0)
    bearing = np.array([stratum in strata for strata in images.strata.of_label])[images.label.code_N]
    count, num_clusters = int(bearing.sum()), len(np.unique(cluster_N[bearing]))
    raise DataError(
        f"class {images.strata.names[stratum]} has no image left for the {part} part: it has {count} images in "
        f"{num_clusters} clusters of duplicates and groups, and needs one in {' and '.join(needed)} each; "
        "add images of it, merge it with another class, or remove it"
    )


def _weighted_strata(images: SplitImages) -> tuple[Ints, Ints]:
    label, stratum = spread(np.arange(len(images.label.names)), images.strata.of_label)
    return stratum, np.bincount(images.label.code_N, minlength=len(images.label.names))[label]
