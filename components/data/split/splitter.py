"""Splits that share no picture: whole clusters of duplicates and groups are dealt out, each class in proportion.

One union-find runs over images, kinds (equal bytes) and groups, an ingest (generation) at a time. What an earlier
generation was dealt stands fixed: a new image goes where its cluster is, one that would join clusters of two splits is
excluded, and the clusters that are new are dealt so that each class comes nearest to its shares. So the splits of the
first ingest are the same whatever comes later. Classes are those that the images came with: a label that is corrected
moves no image, but where the corrected class would lack one in a split.
Letters: N images, V nodes of the union-find, S strata, C clusters, P splits.
"""

import re
from dataclasses import dataclass
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
    cut_by_time,
    deal_stratified,
    fill_lacking,
    present_in,
)
from components.data.split.checks import refuse_small_classes, refuse_unfit
from components.data.split.names import EXCLUDED, SPLITS
from components.data.split.strata import SplitImages, times_of
from components.shared.errors import DataError
from components.shared.progress import Progress, silent
from components.shared.settings import Settings


class SplitSettings(Settings):
    """params.yaml: split."""

    method: Literal["random", "group", "time", "given"]
    """random: stratified; group: the same, and each image must have a group; time: the newest of each ingest into
    test; given: as found.

    Groups and duplicates stay whole under each of them.
    """
    fractions: dict[str, float]
    """Share of the images in each split; train, val, test and any further ones; they sum to 1."""
    folds: int = Field(ge=0)
    """Stratified folds over the images of train and val, for cross-validation; 0 writes none."""
    seed: int = Field(ge=0)
    """Another seed deals another split."""
    given: Literal["repair", "keep", "ignore"]
    """repair: keep the author's splits but bring each cluster to one side; keep: leave leaks, and list them;
    ignore: deal everything anew."""
    duplicates: DuplicateSettings

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: dict[str, float]) -> dict[str, float]:
        missing = [split for split in SPLITS if split not in fractions]
        if missing:
            raise ValueError(f"a share for train, val and test; {', '.join(missing)} has none")
        for split, share in fractions.items():
            if not 0 < share < 1:
                raise ValueError(f"shares above 0 and below 1; {split} has {share:g}")
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
    def share_P(self) -> Floats:
        return np.array([self.fractions[split] for split in self.splits])


@dataclass(frozen=True)
class SplitResult:
    """Where each image goes."""

    splits: list[str]
    """The settings' splits, then `excluded`."""
    split_N: Ints
    """Position in `splits`."""
    cluster_N: Ints
    """Images of one cluster share a number; an excluded image has one of its own."""
    fold_N: Ints
    """-1 outside of train and val, and where no folds are asked for."""
    excluded: dict[int, str]
    """Why an image is in no split."""
    num_older: int | None = None
    """Test images older than the newest training image, where time is what splits them."""


def split_images(
    images: SplitImages, near: Pairs, settings: SplitSettings, *, progress: Progress = silent
) -> SplitResult:
    """Deals N images; `near` are pairs of images that show one picture.

    Raises DataError where a class is too small for the splits, or where the method lacks the column that it needs.
    """
    refuse_unfit(images, method=settings.method, given_counts=settings.given != "ignore")
    deal = _Deal(images, near, settings)
    ingest_ids = np.unique(images.ingest_id_N)
    for done, ingest_id in enumerate(ingest_ids):
        progress("split", done, len(ingest_ids))
        deal.take(int(ingest_id))
    progress("split", len(ingest_ids), len(ingest_ids))
    decided = settings.method == "time" or bool((deal.given_N != NONE).any())
    refuse_small_classes(
        images, deal.split_N, deal.cluster_of_images(), num_splits=len(settings.splits), decided=decided
    )
    return SplitResult(
        splits=[*settings.splits, EXCLUDED],
        split_N=deal.split_N,
        cluster_N=np.unique(deal.cluster_of_images(), return_inverse=True)[1].astype(np.int64),
        fold_N=_folds(images.as_ingested, deal, settings),
        excluded=deal.excluded,
        num_older=deal.num_older(),
    )


class _Deal:
    """The split as it grows. Nodes of the union-find are the images, then the kinds, then the groups."""

    def __init__(self, images: SplitImages, near: Pairs, settings: SplitSettings) -> None:
        self._images, self._corrected, self._settings = images.as_ingested, images, settings
        self._rank_N = _ranks(images, settings.seed)
        self._time_N = times_of(images) if settings.method == "time" else None
        self.given_N = _given(images, settings)
        self._group_start = len(images) + int(images.kind_N.max()) + 1
        self._edges, self._edge_ingest_id = _links(images, near, self._group_start)
        num_nodes = self._group_start + len(images.group.names)
        self._root_V = np.arange(num_nodes)
        """A cluster's root is its first image."""
        self._root_split_V = np.full(num_nodes, NONE)
        self._dead_V = np.zeros(num_nodes, np.bool_)
        """Excluded images, and kinds all of whose images are."""
        self._dealt_SP = np.zeros((len(images.strata.names), len(settings.splits)))
        """Images that were free to go anywhere, by where they went."""
        self.split_N = np.full(len(images), NONE)
        self.excluded: dict[int, str] = {}

    def cluster_of_images(self) -> Ints:
        return self._root_V[: len(self._images)]

    def num_older(self) -> int | None:
        if self._time_N is None:
            return None
        train, test = (self.split_N == SPLITS.index(split) for split in ("train", "test"))
        return int((self._time_N[test] < self._time_N[train].max()).sum())

    def take(self, ingest_id: int) -> None:
        """Gives each image of this generation a split; no earlier image moves."""
        new = self._images.ingest_id_N == ingest_id
        self._link(ingest_id, new)
        fresh = np.flatnonzero(new & (self.split_N == NONE))
        roots = self._root_V[fresh]
        unplaced = fresh[self._root_split_V[roots] == NONE]
        if len(unplaced):
            self._place(unplaced, ingest_id)
        self.split_N[fresh] = self._root_split_V[roots]
        if self._settings.given == "keep":
            self._keep_given(np.flatnonzero(new), ingest_id)

    def _link(self, ingest_id: int, new: NDArray[np.bool_]) -> None:
        copies = np.flatnonzero(new & self._dead_V[self._kind_nodes()])
        self._exclude(copies, ["a copy of an image that is excluded"] * len(copies))
        edges = self._edges[self._edge_ingest_id == ingest_id]
        edges = edges[~self._dead_V[edges].any(axis=1)]
        involved, ends = np.unique(self._root_V[edges], return_inverse=True)
        if not len(involved):
            return
        component = clusters(len(involved), ends.reshape(-1, 2))
        low, high = _extremes(component, self._root_split_V[involved])
        torn = low < high
        if torn.any():
            self._exclude_torn(involved, component, torn)
        root = involved[np.unique(component, return_index=True)[1]]
        self._root_split_V[root[~torn]] = high[~torn]
        lookup = np.arange(len(self._root_V))
        whole = ~torn[component]
        lookup[involved[whole]] = root[component[whole]]
        self._root_V = lookup[self._root_V]

    def _kind_nodes(self) -> Ints:
        return len(self._images) + self._images.kind_N

    def _exclude_torn(self, involved: Ints, component: Ints, torn: NDArray[np.bool_]) -> None:
        """The new images of components that already stand in two splits; what stood before stays two clusters."""
        in_torn = torn[component]
        node, component = involved[in_torn], component[in_torn]
        stands = self._root_split_V[node] != NONE
        witness: dict[int, dict[int, int]] = {}
        for root, one in zip(node[stands].tolist(), component[stands].tolist(), strict=True):
            witness.setdefault(one, {}).setdefault(int(self._root_split_V[root]), root)
        # A kind or group that still is a node of its own has no image that stands.
        is_new_kind = (node >= len(self._images)) & (node < self._group_start)
        self._dead_V[node[is_new_kind]] = True
        is_new = (node < len(self._images)) & ~stands
        self._exclude(node[is_new], [self._torn_reason(witness[one]) for one in component[is_new].tolist()])

    def _torn_reason(self, witness: dict[int, int]) -> str:
        sides = [f"{self._images.path_of(root)} ({self._settings.splits[split]})" for split, root in witness.items()]
        return f"it would join {' and '.join(sides)}, which stand fixed since earlier data"

    def _exclude(self, images: Ints, reasons: list[str]) -> None:
        self._dead_V[images] = True
        self.split_N[images] = len(self._settings.splits)
        self.excluded.update(zip(images.tolist(), reasons, strict=True))

    def _place(self, unplaced: Ints, ingest_id: int) -> None:
        """Splits for new clusters that hold no earlier image."""
        roots, cluster = np.unique(self._root_V[unplaced], return_inverse=True)
        open_splits = self._open_splits(ingest_id)
        split_C = _majority(cluster, self.given_N[unplaced], len(roots), len(self._settings.splits))
        free_C = (split_C == NONE) | np.isin(split_C, open_splits)
        if free_C.any():
            number = np.cumsum(free_C) - 1
            chosen = free_C[cluster]
            members = unplaced[chosen], number[cluster[chosen]]
            free = self._clusters(self._images, *members)
            dealt_C = self._dealt(free, open_splits, ingest_id)
            if free.time_C is None and self._corrected is not self._images:
                self._fill(self._corrected, self._clusters(self._corrected, *members), dealt_C, open_splits, ingest_id)
            split_C[free_C] = open_splits[dealt_C]
            np.add.at(self._dealt_SP, (free.stratum_E, split_C[free_C][free.cluster_E]), free.count_E)
        self._root_split_V[roots] = split_C

    def _open_splits(self, ingest_id: int) -> Ints:
        """The splits to deal into: all where the author gave none, else train and those that the author left out."""
        given = np.unique(self.given_N[self._images.ingest_id_N <= ingest_id])
        return np.array([split for split in range(len(self._settings.splits)) if split == 0 or split not in given])

    def _clusters(self, images: SplitImages, image_M: Ints, cluster_M: Ints) -> FreeClusters:
        return FreeClusters.of(images, image_M, cluster_M, self._rank_N, self._time_N)

    def _dealt(self, free: FreeClusters, open_splits: Ints, ingest_id: int) -> Ints:
        share_P = self._settings.share_P[open_splits]
        share_P = share_P / share_P.sum()
        if free.time_C is not None:
            in_time = np.argsort([_place_in_time(split, len(self._settings.splits)) for split in open_splits.tolist()])
            by_time: Ints = in_time[cut_by_time(free, share_P[in_time])]
            return by_time
        dealt_SP = self._dealt_SP[:, open_splits]
        split_C = deal_stratified(free, dealt_SP, share_P)
        self._fill(self._images, free, split_C, open_splits, ingest_id)
        return split_C

    def _fill(self, images: SplitImages, free: FreeClusters, split_C: Ints, open_splits: Ints, ingest_id: int) -> None:
        """Moves clusters within `split_C` so that each stratum of these labels stands in each split that needs it."""
        present_SP = self._present(images, ingest_id)[:, open_splits]
        np.add.at(present_SP, (free.stratum_E, split_C[free.cluster_E]), free.count_E)
        fill_lacking(
            free, split_C, present_SP, required=[at for at, split in enumerate(open_splits) if split < len(SPLITS)]
        )

    def _present(self, images: SplitImages, ingest_id: int) -> Ints:
        placed = (self.split_N != NONE) & (self.split_N < len(self._settings.splits))
        placed &= images.ingest_id_N <= ingest_id
        return present_in(images, np.flatnonzero(placed), self.split_N, len(self._settings.splits))

    def _keep_given(self, new: Ints, ingest_id: int) -> None:
        """Brings new images back to the author's split, unless it was opened to be dealt on."""
        given = self.given_N[new]
        carved = (
            (given == 0) & (len(self._open_splits(ingest_id)) > 1) & (self.split_N[new] < len(self._settings.splits))
        )
        # A cluster that the author tore apart is not carved: its training images stay where they were put.
        carved &= np.isin(self.split_N[new], self._open_splits(ingest_id))
        back = new[(given != NONE) & ~carved]
        self.split_N[back] = self.given_N[back]
        for image in back.tolist():
            self.excluded.pop(image, None)


def _place_in_time(split: int, num_splits: int) -> int:
    """Train is oldest, then the further splits, val, and test is newest."""
    return {0: 0, 1: num_splits, 2: num_splits + 1}.get(split, split)


def _links(images: SplitImages, near: Pairs, group_start: int) -> tuple[Ints, Ints]:
    """Edges of the union-find, and the generation in which each came to be."""
    kind_N, ingest_id_N, num_images = images.kind_N, images.ingest_id_N, len(images)
    grouped = np.flatnonzero(images.group.code_N != NONE)
    kind_ingest_id = np.full(group_start - num_images, np.iinfo(np.int64).max)
    np.minimum.at(kind_ingest_id, kind_N, ingest_id_N)
    near_kinds = kind_N[near]
    edges = [
        np.stack([np.arange(num_images), num_images + kind_N], axis=1),
        np.stack([grouped, group_start + images.group.code_N[grouped]], axis=1),
        num_images + near_kinds,
    ]
    return np.concatenate(edges), np.concatenate(
        [ingest_id_N, ingest_id_N[grouped], kind_ingest_id[near_kinds].max(axis=1)]
    )


def _extremes(component: Ints, split: Ints) -> tuple[Ints, Ints]:
    """The lowest and the highest split in each component; both -1 where none of it stands."""
    high = np.full(int(component.max()) + 1, NONE)
    np.maximum.at(high, component, split)
    low = high.copy()
    np.minimum.at(low, component[split != NONE], split[split != NONE])
    return low, high


def _majority(cluster: Ints, given: Ints, num_clusters: int, num_splits: int) -> Ints:
    """The split that the author gave most of a cluster, the first of equals; -1 where the author gave none."""
    known = given != NONE
    count = np.bincount(cluster[known] * num_splits + given[known], minlength=num_clusters * num_splits)
    count = count.reshape(num_clusters, num_splits)
    return np.where(count.any(axis=1), count.argmax(axis=1), NONE)


def _ranks(images: SplitImages, seed: int) -> NDArray[np.uint64]:
    """A number an image, drawn from the seed and the content (splitmix64's finalizer, Steele et al. 2014)."""
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


def _folds(images: SplitImages, deal: _Deal, settings: SplitSettings) -> Ints:
    """Dealt anew at each growth: a new image may join two clusters, which then share a fold."""
    fold_N = np.full(len(images), NONE)
    learnt = np.flatnonzero((deal.split_N == SPLITS.index("train")) | (deal.split_N == SPLITS.index("val")))
    if settings.folds == 0:
        return fold_N
    roots, cluster = np.unique(deal.cluster_of_images()[learnt], return_inverse=True)
    if len(roots) < settings.folds:
        raise DataError(f"split.folds is {settings.folds}, but train and val hold only {len(roots)} clusters; lower it")
    free = FreeClusters.of(images, learnt, cluster, _ranks(images, settings.seed), None)
    share = np.full(settings.folds, 1 / settings.folds)
    fold_N[learnt] = deal_stratified(free, np.zeros((len(images.strata.names), settings.folds)), share)[cluster]
    return fold_N
