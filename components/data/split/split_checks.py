"""Checks of the images before and after a split: missing or contradictory columns, and classes that are too small.

Shapes: N images, S strata, P splits.
"""

import numpy as np

from components.data.split.assignment import NONE, Ints, present_in, spread
from components.data.split.names import SPLITS
from components.data.split.strata import NO_LABEL, SplitImages
from components.shared.errors import DataError


def check_columns(images: SplitImages, *, method: str, uses_given_split: bool) -> None:
    """Raises DataError if the method lacks a column that it needs, or if groups contradict the given splits."""
    for name, column, what in (("group", images.group, "a group"), ("given", images.given, "a given split")):
        without = np.flatnonzero(column.code_N == NONE)
        if name == method and len(without):
            raise DataError(
                f"split.method {method} needs {what} for each image; {images.path_of(without[0])} has none "
                f"({len(without)} of {len(images)} images); fill the column or choose another method"
            )
    if uses_given_split:
        _check_groups(images)


def _check_groups(images: SplitImages) -> None:
    """Raises DataError if a group is in two given splits; duplicates across the given splits are no contradiction."""
    known = np.flatnonzero((images.group.code_N != NONE) & (images.given.code_N != NONE))
    given = np.full(len(images.group.names), NONE)
    given[images.group.code_N[known]] = images.given.code_N[known]
    contradictory = known[given[images.group.code_N[known]] != images.given.code_N[known]]
    if len(contradictory):
        group = images.group.code_N[contradictory[0]]
        splits = sorted(
            {images.given.names[code] for code in images.given.code_N[known][images.group.code_N[known] == group]}
        )
        num_contradictory = len(np.unique(images.group.code_N[contradictory]))
        raise DataError(
            f"group {images.group.names[group]} is in {' and '.join(splits)} of the given splits "
            f"({num_contradictory} such group{'s' if num_contradictory > 1 else ''}); "
            "make the two columns agree, or set split.given: ignore, which assigns all images again"
        )


def check_classes(images: SplitImages, split_N: Ints, cluster_N: Ints, *, num_splits: int, decided: bool) -> None:
    """Raises DataError for a class without training images; without val or test images too, unless `decided` by time or
    by the author.

    `split_N` are indices of the splits: train, val and test first; from `num_splits` on, an image is in none.
    """
    present_SP = present_in(images, np.flatnonzero(split_N < num_splits), split_N, num_splits)
    needed = SPLITS[:1] if decided else SPLITS
    for split in SPLITS:
        if not present_SP[:, SPLITS.index(split)].any():
            raise DataError(
                f"the {split} split gets no image; add images, change split.fractions, or set split.given: ignore"
            )
    is_class_S = np.array([name != NO_LABEL for name in images.strata.names])
    lacking = np.flatnonzero((present_SP[:, : len(needed)] == 0).any(axis=1) & is_class_S)
    if not len(lacking):
        return
    total_S = np.bincount(*_weighted_strata(images), minlength=len(present_SP))
    stratum = lacking[np.argmin(total_S[lacking])]
    split = next(split for at, split in enumerate(needed) if present_SP[stratum, at] == 0)
    has_class_N = np.array([stratum in strata for strata in images.strata.of_label])[images.label.code_N]
    count, num_clusters = int(has_class_N.sum()), len(np.unique(cluster_N[has_class_N]))
    raise DataError(
        f"class {images.strata.names[stratum]} gets no image in the {split} split: it has {count} images in "
        f"{num_clusters} clusters of duplicates and groups, and needs one in {' and '.join(needed)} each; "
        "add images of it, merge it with another class, or remove it"
    )


def classes_lacking(images: SplitImages, split_N: Ints, *, num_splits: int) -> dict[str, list[str]]:
    """The classes without an image in train, val or test, by split; empty where none is lacking."""
    present_SP = present_in(images, np.flatnonzero(split_N < num_splits), split_N, num_splits)
    names = [name for name in images.strata.names if name != NO_LABEL]
    present_CP = present_SP[[name != NO_LABEL for name in images.strata.names]]
    lacking = {
        split: [names[at] for at in np.flatnonzero(present_CP[:, number] == 0)] for number, split in enumerate(SPLITS)
    }
    return {split: classes for split, classes in lacking.items() if classes}


def _weighted_strata(images: SplitImages) -> tuple[Ints, Ints]:
    label, stratum = spread(np.arange(len(images.label.names)), images.strata.of_label)
    return stratum, np.bincount(images.label.code_N, minlength=len(images.label.names))[label]
