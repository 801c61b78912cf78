"""Leak-free splits: whole clusters of duplicates and groups are assigned to splits, in proportion for each class.

One union-find runs over images, contents (equal bytes) and groups, one ingest at a time. The splits of earlier ingests
are fixed: a new image goes to the split of its cluster, an image that would join clusters of two splits is excluded,
and new clusters are assigned so that each class comes closest to the configured fractions. So later ingests never
change the splits of the first one. Classes are those of the ingest: a corrected label moves no image, unless the
corrected class would be missing in a split.
Shapes: N images, V nodes of the union-find, S strata, C clusters, P splits.
"""

import re
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from components.data.duplicates.finder import DuplicateSettings, Pairs, clusters
from components.data.split.assignment import (
    NONE,
    Floats,
    FreeClusters,
    Ints,
    assign_by_time,
    assign_stratified,
    fill_lacking,
    present_in,
)
from components.data.split.names import EXCLUDED, SPLITS
from components.data.split.split_checks import check_classes, check_columns, classes_lacking
from components.data.split.strata import SplitImages, times_of
from components.shared.errors import DataError
from components.shared.progress import Progress, silent
from components.shared.settings import Settings


class SplitSettings(Settings):
    """params.yaml: split."""

    method: Literal["random", "group", "time", "given"]
    """random (stratified) | group (each image has one) | time (newest of each ingest into test) | given.

    Groups and duplicates stay together under each of them.
    """
    fractions: dict[str, float]
    """Fraction of the images in each split: train, val, test, perhaps a holdout; they sum to 1."""
    folds: int = Field(ge=0)
    """Stratified folds over train and val, for `darkroom cross-validate`; 0 makes none."""
    seed: int = Field(ge=0)
    """Another seed gives another split."""
    given: Literal["repair", "keep", "ignore"]
    """The author's own splits: repair (keep them, but fix leaks) | keep (and list leaks) | ignore.

    To fix a leak, `repair` moves each cluster of duplicates or group into one split.
    """
    duplicates: DuplicateSettings

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: dict[str, float]) -> dict[str, float]:
        missing = [split for split in SPLITS if split not in fractions]
        if missing:
            raise ValueError(f"a fraction for train, val and test; {', '.join(missing)} has none")
        for split, fraction in fractions.items():
            if not 0 < fraction < 1:
                raise ValueError(f"fractions above 0 and below 1; {split} has {fraction:g}")
            if split == EXCLUDED or not re.fullmatch(r"[a-z][a-z0-9_]*", split):
                raise ValueError(f"splits named in small letters, and none named {EXCLUDED}; {split!r} is")
        if abs(sum(fractions.values()) - 1) > 1e-6:
            raise ValueError(f"fractions that sum to 1, not {sum(fractions.values()):g}")
        return fractions

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.method == "given" and self.given == "ignore":
            raise ValueError("without contradiction: method given needs given: repair or keep, not ignore")
        if self.folds == 1:
            raise ValueError("without a single fold: folds is 0 (none) or at least 2")
        return self

    @property
    def splits(self) -> list[str]:
        """Train, val, test, then the further ones in the order of the settings."""
        return [*SPLITS, *(split for split in self.fractions if split not in SPLITS)]

    @property
    def fraction_P(self) -> Floats:
        return np.array([self.fractions[split] for split in self.splits])


@dataclass(frozen=True)
class SplitResult:
    """The split, cluster and fold of each image."""

    splits: list[str]
    """The configured splits, then `excluded`."""
    split_N: Ints
    """Index in `splits`."""
    cluster_N: Ints
    """Number of each image's cluster; an excluded image is a cluster of its own."""
    fold_N: Ints
    """Fold of each image; -1 outside of train and val, and without folds."""
    excluded: dict[int, str]
    """The reason of each image that is in no split."""
    lacking: dict[str, list[str]] = field(default_factory=dict)
    """By split, the classes that have no image in it, where the author or the time decided."""
    num_older: int | None = None
    """Number of test images older than the newest training image, if the method is time."""


def split_images(
    images: SplitImages, near: Pairs, settings: SplitSettings, *, progress: Progress = silent
) -> SplitResult:
    """The split of N images; `near` are pairs of near duplicates.

    Raises DataError if a class is too small for the splits, or if the method lacks a column that it needs.
    """
    check_columns(images, method=settings.method, uses_given_split=settings.given != "ignore")
    assignment = _Assignment(images, near, settings)
    ingest_ids = np.unique(images.ingest_id_N)
    for done, ingest_id in enumerate(ingest_ids):
        progress("split", done, len(ingest_ids))
        assignment.add_ingest(int(ingest_id))
    progress("split", len(ingest_ids), len(ingest_ids))
    decided = settings.method == "time" or bool((assignment.given_N != NONE).any())
    check_classes(
        images, assignment.split_N, assignment.cluster_of_images(), num_splits=len(settings.splits), decided=decided
    )
    return SplitResult(
        splits=[*settings.splits, EXCLUDED],
        split_N=assignment.split_N,
        cluster_N=np.unique(assignment.cluster_of_images(), return_inverse=True)[1].astype(np.int64),
        fold_N=_folds(images.as_ingested, assignment, settings),
        excluded=assignment.excluded,
        lacking=classes_lacking(images, assignment.split_N, num_splits=len(settings.splits)),
        num_older=assignment.num_older(),
    )


class _Assignment:
    """The split, grown ingest by ingest. Nodes of the union-find are the images, then the contents, then the groups."""

    def __init__(self, images: SplitImages, near: Pairs, settings: SplitSettings) -> None:
        self._images, self._corrected, self._settings = images.as_ingested, images, settings
        self._rank_N = _ranks(images, settings.seed)
        self._time_N = times_of(images) if settings.method == "time" else None
        self.given_N = _given(images, settings)
        self._group_start = len(images) + int(images.content_N.max()) + 1
        self._edges, self._edge_ingest_id = _links(images, near, self._group_start)
        num_nodes = self._group_start + len(images.group.names)
        self._root_V = np.arange(num_nodes)
        """Root of each node's cluster: its first image."""
        self._root_split_V = np.full(num_nodes, NONE)
        self._excluded_V = np.zeros(num_nodes, np.bool_)
        """Excluded images, and contents all of whose images are excluded."""
        self._assigned_SP = np.zeros((len(images.strata.names), len(settings.splits)))
        """Number of images, by stratum and split, that no earlier image or author fixed."""
        self._assigned_P = np.zeros(len(settings.splits))
        """The same of all strata."""
        self.split_N = np.full(len(images), NONE)
        self.excluded: dict[int, str] = {}

    def cluster_of_images(self) -> Ints:
        return self._root_V[: len(self._images)]

    def num_older(self) -> int | None:
        if self._time_N is None:
            return None
        train, test = (self.split_N == SPLITS.index(split) for split in ("train", "test"))
        return int((self._time_N[test] < self._time_N[train].max()).sum())

    def add_ingest(self, ingest_id: int) -> None:
        """Assigns each image of this ingest to a split; no earlier image moves."""
        new = self._images.ingest_id_N == ingest_id
        self._link(ingest_id, new)
        added = np.flatnonzero(new & (self.split_N == NONE))
        roots = self._root_V[added]
        unassigned = added[self._root_split_V[roots] == NONE]
        if len(unassigned):
            self._assign_new(unassigned, ingest_id)
        self.split_N[added] = self._root_split_V[roots]
        if self._settings.given == "keep":
            self._keep_given(np.flatnonzero(new), ingest_id)

    def _link(self, ingest_id: int, new: NDArray[np.bool_]) -> None:
        copies = np.flatnonzero(new & self._excluded_V[self._content_nodes()])
        self._exclude(copies, ["a copy of an image that is excluded"] * len(copies))
        edges = self._edges[self._edge_ingest_id == ingest_id]
        edges = edges[~self._excluded_V[edges].any(axis=1)]
        involved, ends = np.unique(self._root_V[edges], return_inverse=True)
        if not len(involved):
            return
        component = clusters(len(involved), ends.reshape(-1, 2))
        low, high = _extremes(component, self._root_split_V[involved])
        crosses = low < high
        if crosses.any():
            self._exclude_joining(involved, component, crosses)
        root = involved[np.unique(component, return_index=True)[1]]
        self._root_split_V[root[~crosses]] = high[~crosses]
        lookup = np.arange(len(self._root_V))
        whole = ~crosses[component]
        lookup[involved[whole]] = root[component[whole]]
        self._root_V = lookup[self._root_V]

    def _content_nodes(self) -> Ints:
        return len(self._images) + self._images.content_N

    def _exclude_joining(self, involved: Ints, component: Ints, crosses: NDArray[np.bool_]) -> None:
        """Excludes the new images that would join clusters of two splits; those clusters stay separate."""
        affected = crosses[component]
        node, component = involved[affected], component[affected]
        assigned = self._root_split_V[node] != NONE
        witness: dict[int, dict[int, int]] = {}
        for root, one in zip(node[assigned].tolist(), component[assigned].tolist(), strict=True):
            witness.setdefault(one, {}).setdefault(int(self._root_split_V[root]), root)
        # A content or group that is still a root has no image with a split.
        is_new_content = (node >= len(self._images)) & (node < self._group_start)
        self._excluded_V[node[is_new_content]] = True
        is_new = (node < len(self._images)) & ~assigned
        self._exclude(node[is_new], [self._joining_reason(witness[one]) for one in component[is_new].tolist()])

    def _joining_reason(self, witness: dict[int, int]) -> str:
        joined = [f"{self._images.path_of(root)} ({self._settings.splits[split]})" for split, root in witness.items()]
        return f"it would join {' and '.join(joined)}, whose splits are fixed by earlier data"

    def _exclude(self, images: Ints, reasons: list[str]) -> None:
        self._excluded_V[images] = True
        self.split_N[images] = len(self._settings.splits)
        self.excluded.update(zip(images.tolist(), reasons, strict=True))

    def _assign_new(self, unassigned: Ints, ingest_id: int) -> None:
        """Assigns the clusters that hold no earlier image."""
        roots, cluster = np.unique(self._root_V[unassigned], return_inverse=True)
        open_splits = self._open_splits(ingest_id)
        split_C = _majority(cluster, self.given_N[unassigned], len(roots), len(self._settings.splits))
        free_C = (split_C == NONE) | np.isin(split_C, open_splits)
        if free_C.any():
            number = np.cumsum(free_C) - 1
            chosen = free_C[cluster]
            members = unassigned[chosen], number[cluster[chosen]]
            free = self._clusters(self._images, *members)
            assigned_C = self._assign(free, open_splits, ingest_id)
            if free.time_C is None and self._corrected is not self._images:
                self._fill(
                    self._corrected, self._clusters(self._corrected, *members), assigned_C, open_splits, ingest_id
                )
            split_C[free_C] = open_splits[assigned_C]
            np.add.at(self._assigned_SP, (free.stratum_E, split_C[free_C][free.cluster_E]), free.count_E)
            np.add.at(self._assigned_P, split_C[free_C], free.size_C)
        self._root_split_V[roots] = split_C

    def _open_splits(self, ingest_id: int) -> Ints:
        """The splits open for new images: all if the author gave none, else train and those left out."""
        given = np.unique(self.given_N[self._images.ingest_id_N <= ingest_id])
        return np.array([split for split in range(len(self._settings.splits)) if split == 0 or split not in given])

    def _clusters(self, images: SplitImages, image_M: Ints, cluster_M: Ints) -> FreeClusters:
        return FreeClusters.of(images, image_M, cluster_M, self._rank_N, self._time_N)

    def _assign(self, free: FreeClusters, open_splits: Ints, ingest_id: int) -> Ints:
        fraction_P = self._settings.fraction_P[open_splits]
        fraction_P = fraction_P / fraction_P.sum()
        if free.time_C is not None:
            in_time = np.argsort([_age_rank(split, len(self._settings.splits)) for split in open_splits.tolist()])
            by_time: Ints = in_time[assign_by_time(free, fraction_P[in_time])]
            return by_time
        assigned_SP = self._assigned_SP[:, open_splits]
        split_C = assign_stratified(free, assigned_SP, self._assigned_P[open_splits], fraction_P)
        self._fill(self._images, free, split_C, open_splits, ingest_id)
        return split_C

    def _fill(self, images: SplitImages, free: FreeClusters, split_C: Ints, open_splits: Ints, ingest_id: int) -> None:
        """Changes `split_C` so that each stratum of these labels is in each split that needs it."""
        present_SP = self._present(images, ingest_id)[:, open_splits]
        np.add.at(present_SP, (free.stratum_E, split_C[free.cluster_E]), free.count_E)
        fill_lacking(
            free, split_C, present_SP, required=[at for at, split in enumerate(open_splits) if split < len(SPLITS)]
        )

    def _present(self, images: SplitImages, ingest_id: int) -> Ints:
        assigned = (self.split_N != NONE) & (self.split_N < len(self._settings.splits))
        assigned &= images.ingest_id_N <= ingest_id
        return present_in(images, np.flatnonzero(assigned), self.split_N, len(self._settings.splits))

    def _keep_given(self, new: Ints, ingest_id: int) -> None:
        """Returns new images to the author's split, unless they fill a split that the author left out."""
        given = self.given_N[new]
        carved = (
            (given == 0) & (len(self._open_splits(ingest_id)) > 1) & (self.split_N[new] < len(self._settings.splits))
        )
        # A cluster that the author put into two splits is not carved: its training images stay where they are.
        carved &= np.isin(self.split_N[new], self._open_splits(ingest_id))
        back = new[(given != NONE) & ~carved]
        self.split_N[back] = self.given_N[back]
        for image in back.tolist():
            self.excluded.pop(image, None)


def _age_rank(split: int, num_splits: int) -> int:
    """Rank of a split by age: train is oldest, then the further splits, val, and test is newest."""
    return {0: 0, 1: num_splits, 2: num_splits + 1}.get(split, split)


def _links(images: SplitImages, near: Pairs, group_start: int) -> tuple[Ints, Ints]:
    """Edges of the union-find, and the ingest that brought each."""
    content_N, ingest_id_N, num_images = images.content_N, images.ingest_id_N, len(images)
    grouped = np.flatnonzero(images.group.code_N != NONE)
    content_ingest_id = np.full(group_start - num_images, np.iinfo(np.int64).max)
    np.minimum.at(content_ingest_id, content_N, ingest_id_N)
    near_contents = content_N[near]
    edges = [
        np.stack([np.arange(num_images), num_images + content_N], axis=1),
        np.stack([grouped, group_start + images.group.code_N[grouped]], axis=1),
        num_images + near_contents,
    ]
    return np.concatenate(edges), np.concatenate(
        [ingest_id_N, ingest_id_N[grouped], content_ingest_id[near_contents].max(axis=1)]
    )


def _extremes(component: Ints, split: Ints) -> tuple[Ints, Ints]:
    """The lowest and the highest split in each component; both -1 if none of its images has a split."""
    high = np.full(int(component.max()) + 1, NONE)
    np.maximum.at(high, component, split)
    low = high.copy()
    np.minimum.at(low, component[split != NONE], split[split != NONE])
    return low, high


def _majority(cluster: Ints, given: Ints, num_clusters: int, num_splits: int) -> Ints:
    """The split that the author gave most images of each cluster, the first of equals; -1 if the author gave none."""
    known = given != NONE
    count = np.bincount(cluster[known] * num_splits + given[known], minlength=num_clusters * num_splits)
    count = count.reshape(num_clusters, num_splits)
    return np.where(count.any(axis=1), count.argmax(axis=1), NONE)


def _ranks(images: SplitImages, seed: int) -> NDArray[np.uint64]:
    """A pseudo-random number per image, from the seed and the content (finalizer of splitmix64, Steele et al. 2014)."""
    mixed = images.hash_N + np.uint64(seed * 0x9E3779B97F4A7C15 % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _given(images: SplitImages, settings: SplitSettings) -> Ints:
    if settings.given == "ignore" or not images.given.names:
        return np.full(len(images), NONE)
    unknown = [name for name in images.given.names if name not in settings.splits]
    if unknown:
        raise DataError(
            f"the given split names {unknown[0]}, which split.fractions lacks ({', '.join(settings.splits)}); "
            "add it there or set split.given: ignore"
        )
    split_of_name = np.array([settings.splits.index(name) for name in images.given.names])
    return np.where(images.given.code_N == NONE, NONE, split_of_name[images.given.code_N])


def _folds(images: SplitImages, assignment: _Assignment, settings: SplitSettings) -> Ints:
    """The fold of each image; assigned again whenever the data grow, as a new image may join two clusters."""
    fold_N = np.full(len(images), NONE)
    train_val = np.flatnonzero(
        (assignment.split_N == SPLITS.index("train")) | (assignment.split_N == SPLITS.index("val"))
    )
    if settings.folds == 0:
        return fold_N
    roots, cluster = np.unique(assignment.cluster_of_images()[train_val], return_inverse=True)
    if len(roots) < settings.folds:
        raise DataError(f"split.folds is {settings.folds}, but train and val hold only {len(roots)} clusters; lower it")
    free = FreeClusters.of(images, train_val, cluster, _ranks(images, settings.seed), None)
    fraction_F = np.full(settings.folds, 1 / settings.folds)
    none_SF, none_F = np.zeros((len(images.strata.names), settings.folds)), np.zeros(settings.folds)
    fold_N[train_val] = assign_stratified(free, none_SF, none_F, fraction_F)[cluster]
    return fold_N
