"""What can't be split: columns that are missing or contradict each other, and classes too small for the splits.

Letters: N images, S strata, P splits.
"""

import numpy as np

from components.data.split.assignment import NONE, Ints, present_in, spread
from components.data.split.names import SPLITS
from components.data.split.strata import SplitImages
from components.shared.errors import DataError


def refuse_unfit(images: SplitImages, *, method: str, given_counts: bool) -> None:
    """Raises DataError where the method lacks the column that it needs, or where groups contradict the given splits."""
    for name, column, what in (("group", images.group, "a group"), ("given", images.given, "a given split")):
        lost = np.flatnonzero(column.code_N == NONE)
        if name == method and len(lost):
            raise DataError(
                f"split.method {method} needs {what} for each image; {images.path_of(lost[0])} has none "
                f"({len(lost)} of {len(images)} images); fill the column or choose another method"
            )
    if given_counts:
        _refuse_torn_groups(images)


def _refuse_torn_groups(images: SplitImages) -> None:
    """The user's own two columns contradict each other; duplicates across the given splits are no contradiction."""
    known = np.flatnonzero((images.group.code_N != NONE) & (images.given.code_N != NONE))
    given = np.full(len(images.group.names), NONE)
    given[images.group.code_N[known]] = images.given.code_N[known]
    torn = known[given[images.group.code_N[known]] != images.given.code_N[known]]
    if len(torn):
        group = images.group.code_N[torn[0]]
        splits = sorted(
            {images.given.names[code] for code in images.given.code_N[known][images.group.code_N[known] == group]}
        )
        num_torn = len(np.unique(images.group.code_N[torn]))
        raise DataError(
            f"group {images.group.names[group]} stands in {' and '.join(splits)} of the given split "
            f"({num_torn} such group{'s' if num_torn > 1 else ''}); "
            "make the two columns agree, or set split.given: ignore, which deals all images anew"
        )


def refuse_small_classes(
    images: SplitImages, split_N: Ints, cluster_N: Ints, *, num_splits: int, decided: bool
) -> None:
    """Raises DataError for a class that can't be learnt; or judged, unless `decided`: by time, or by the author.

    `split_N` numbers the splits, train, val and test first; from `num_splits` on an image is in none.
    """
    present_SP = present_in(images, np.flatnonzero(split_N < num_splits), split_N, num_splits)
    needed = SPLITS[:1] if decided else SPLITS
    for split in SPLITS:
        if not present_SP[:, SPLITS.index(split)].any():
            raise DataError(
                f"the {split} split gets no image; add images, change split.fractions, or set split.given: ignore"
            )
    lacking = np.flatnonzero((present_SP[:, : len(needed)] == 0).any(axis=1))
    if not len(lacking):
        return
    total_S = np.bincount(*_weighted_strata(images), minlength=len(present_SP))
    stratum = lacking[np.argmin(total_S[lacking])]
    split = next(split for at, split in enumerate(needed) if present_SP[stratum, at] == 0)
    bearing = np.array([stratum in strata for strata in images.strata.of_label])[images.label.code_N]
    count, num_clusters = int(bearing.sum()), len(np.unique(cluster_N[bearing]))
    raise DataError(
        f"class {images.strata.names[stratum]} gets no image in the {split} split: it has {count} images in "
        f"{num_clusters} clusters of duplicates and groups, and needs one in {' and '.join(needed)} each; "
        "add images of it, merge it with another class, or remove it"
    )


def _weighted_strata(images: SplitImages) -> tuple[Ints, Ints]:
    label, stratum = spread(np.arange(len(images.label.names)), images.strata.of_label)
    return stratum, np.bincount(images.label.code_N, minlength=len(images.label.names))[label]
