"""Splits of made-up manifests, with random links, groups and growth."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.data.duplicates.finder import DuplicateSettings, Pairs
from components.data.split.leak_proof import find_leaks, split_digest
from components.data.split.names import EXCLUDED
from components.data.split.splitter import SplitResult, SplitSettings, split_images
from components.data.split.strata import SplitImages
from components.shared.errors import DataError, SettingsError

NO_PAIRS = np.empty((0, 2), np.int64)
FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


def settings(**changes: Any) -> SplitSettings:
    values: dict[str, Any] = {
        "method": "random",
        "fractions": FRACTIONS,
        "folds": 0,
        "seed": 7,
        "given": "repair",
        "duplicates": DuplicateSettings(max_bits=7, min_correlation=0.985).model_dump(),
    }
    return SplitSettings.from_section("split", values | changes)


def table_of(label: Sequence[str], **columns: Sequence[Any]) -> pa.Table:
    path = columns.pop("path", None) or [f"{number}.png" for number in range(len(label))]
    sha256 = columns.pop("sha256", None) or [hashlib.sha256(one.encode()).hexdigest() for one in path]
    return pa.table({"path": path, "sha256": sha256, "label": list(label)} | columns)


def assign(table: pa.Table, near: Pairs = NO_PAIRS, **changes: Any) -> SplitResult:
    return split_images(SplitImages.from_table(table), near, settings(**changes))


def split_of_path(table: pa.Table, result: SplitResult) -> dict[str, str]:
    return dict(zip(table["path"].to_pylist(), [result.splits[split] for split in result.split_N], strict=True))


def leaks(table: pa.Table, result: SplitResult, near: Pairs) -> dict[str, int]:
    split = pa.array([result.splits[split] for split in result.split_N])
    return find_leaks(table.append_column("split", split), near).count


def digest(table: pa.Table, result: SplitResult) -> str:
    return split_digest(table["sha256"], table["label"], pa.array([result.splits[split] for split in result.split_N]))


def random_manifest(seed: int, *, images: int = 600, ingest_ids: int = 3) -> tuple[pa.Table, Pairs]:
    """Copies, groups and near pairs that cross generations, so that some new images must be excluded."""
    random = np.random.default_rng(seed)
    path = [f"{seed}-{number}.png" for number in range(images)]
    content = np.where(random.random(images) < 0.1, random.integers(0, images, images), np.arange(images))
    group = [f"g{number}" if number < 60 else None for number in random.integers(0, 300, images)]
    given = random.choice(np.array([None, "train", "test"]), images, p=[0.4, 0.4, 0.2]).tolist()
    # Groups that contradict the given splits are refused.
    of_group = {name: split for name, split in zip(group, given, strict=True) if name and split}
    table = table_of(
        [f"class {number}" for number in random.integers(0, 4, images)],
        path=path,
        sha256=[hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in content],
        group=group,
        ingest_id=np.minimum(random.integers(0, ingest_ids + 2, images), ingest_ids - 1).tolist(),
        timestamp=[f"2024-{month:02d}-{day:02d}" for month, day in random.integers(1, 13, (images, 2))],
        given_split=[split and of_group.get(str(name), split) for name, split in zip(group, given, strict=True)],
    )
    near = np.sort(random.integers(0, images, (images // 12, 2)), axis=1)
    return table, np.unique(near[near[:, 0] != near[:, 1]], axis=0)


def rows(table: pa.Table, near: Pairs, kept: np.ndarray) -> tuple[pa.Table, Pairs]:
    """Those rows in that order; a pair stands between the first copies of its two pictures, as it does when found."""
    fewer = table.take(pa.array(kept))
    sha256 = table["sha256"].to_pylist()
    first = {one: row for row, one in reversed(list(enumerate(fewer["sha256"].to_pylist())))}
    pairs = [
        [first[sha256[left]], first[sha256[right]]]
        for left, right in near
        if {sha256[left], sha256[right]} <= first.keys()
    ]
    return fewer, np.sort(np.array(pairs, np.int64).reshape(-1, 2), axis=1)


@pytest.mark.parametrize("changes", [{}, {"method": "time"}, {"given": "ignore"}, {"given": "keep"}], ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_no_image_moves_when_data_grow_and_nothing_leaks(seed: int, changes: dict[str, str]) -> None:
    table, near = random_manifest(seed)
    ingest_id = table["ingest_id"].to_numpy()
    before: dict[str, str] = {}
    for newest in range(3):
        grown, links = rows(table, near, np.flatnonzero(ingest_id <= newest))
        result = assign(grown, links, **changes)
        now = split_of_path(grown, result)
        assert {path: now[path] for path in before} == before
        assert changes.get("given") == "keep" or sum(leaks(grown, result, links).values()) == 0
        before = now


def test_the_audit_sees_any_image_that_is_torn_from_its_cluster() -> None:
    table, near = random_manifest(3)
    result = assign(table, near)
    numbers, sizes = np.unique(result.cluster_N, return_counts=True)
    linked = np.flatnonzero(np.isin(result.cluster_N, numbers[sizes > 1]) & (result.split_N < 3))
    for image in np.random.default_rng(0).choice(linked, 60, replace=False):
        torn_N = result.split_N.copy()
        torn_N[image] = (torn_N[image] + 1) % 3
        assert sum(leaks(table, replace(result, split_N=torn_N), near).values()) > 0


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    """So is the digest a matter of content alone."""
    table, near = random_manifest(seed)
    shuffled, links = rows(table, near, np.random.default_rng(seed).permutation(len(table)))
    first, second = assign(table, near), assign(shuffled, links)
    assert split_of_path(table, first) == split_of_path(shuffled, second)
    assert digest(table, first) == digest(shuffled, second)


@pytest.mark.parametrize("seed", range(8))
def test_removing_a_single_image_moves_at_most_one_image_a_cut(seed: int) -> None:
    label = [f"class {number}" for number in np.random.default_rng(seed).integers(0, 3, 300)]
    table = table_of(label)
    removed = int(np.random.default_rng(seed).integers(300))
    fewer, _ = rows(table, NO_PAIRS, np.delete(np.arange(300), removed))
    before, after = split_of_path(table, assign(table)), split_of_path(fewer, assign(fewer))
    moved = {path for path in after if after[path] != before[path]}
    assert len(moved) <= 2
    assert {label[int(path.removesuffix(".png"))] for path in moved} <= {label[removed]}


def test_a_corrected_label_moves_no_image() -> None:
    label = ["a", "b", "c"] * 40
    before = split_of_path(table_of(label), assign(table_of(label)))
    for image in range(0, 120, 7):
        corrected = [*label[:image], "c" if label[image] != "c" else "a", *label[image + 1 :]]
        table = table_of(corrected, ingested_label=label)
        assert split_of_path(table, assign(table)) == before


def test_a_class_that_corrections_leave_without_a_test_image_gets_another_of_its_own() -> None:
    label = ["common"] * 60 + ["rare"] * 8
    before = assign(table_of(label)).split_N
    rare = np.arange(68) >= 60
    corrected = np.where(rare & (before == 2), "common", label).tolist()
    after = assign(table_of(corrected, ingested_label=label)).split_N
    still = np.array(corrected) == "rare"
    assert set(after[still].tolist()) == {0, 1, 2}
    assert (after[~still] == before[~still]).all()


def test_each_class_comes_within_one_image_of_its_fraction() -> None:
    label = [f"class {number}" for number in np.random.default_rng(1).zipf(1.4, 4000) % 25]
    result = assign(table_of(label))
    for name in set(label):
        members = np.array(label) == name
        for split, fraction in enumerate(FRACTIONS.values()):
            assert abs((result.split_N[members] == split).sum() - fraction * members.sum()) <= 1.01


def test_many_labels_each_come_near_to_their_fraction() -> None:
    random = np.random.default_rng(2)
    sets = [sorted({f"l{number}" for number in random.zipf(1.3, 3) % 12}) for _ in range(3000)]
    result = assign(table_of(["|".join(names) for names in sets], labels=sets))
    for name in {name for names in sets for name in names}:
        bearing = np.array([name in names for names in sets])
        for split, fraction in enumerate(FRACTIONS.values()):
            assert abs((result.split_N[bearing] == split).sum() - fraction * bearing.sum()) <= 3, name


def test_each_level_of_a_hierarchy_comes_near_to_its_fraction() -> None:
    random = np.random.default_rng(3)
    levels = [[f"s{a}", f"s{a}c{b}", f"s{a}c{b}f{c}"] for a, b, c in random.integers(0, 4, (2000, 3))]
    result = assign(table_of(["/".join(names) for names in levels], labels=levels))
    for depth in range(3):
        for prefix in {tuple(names[: depth + 1]) for names in levels}:
            bearing = np.array([tuple(names[: depth + 1]) == prefix for names in levels])
            for split, fraction in enumerate(FRACTIONS.values()):
                assert abs((result.split_N[bearing] == split).sum() - fraction * bearing.sum()) <= 4, prefix


def test_an_image_that_would_join_two_splits_is_excluded_with_the_reason() -> None:
    table = table_of(["a"] * 40 + ["b"] * 40)
    split = split_of_path(table, assign(table))
    train = next(path for path in split if split[path] == "train")
    test = next(path for path in split if split[path] == "test")
    joining = np.sort([[int(path.removesuffix(".png")), 80] for path in (train, test)], axis=1)
    grown = table_of(["a"] * 40 + ["b"] * 40 + ["a"], ingest_id=[0] * 80 + [1])
    result = assign(grown, joining)
    assert result.splits[result.split_N[80]] == EXCLUDED
    assert train in result.excluded[80]
    assert test in result.excluded[80]


def test_a_later_copy_of_an_excluded_image_is_excluded_too() -> None:
    table = table_of(["a"] * 40)
    split_N = assign(table).split_N
    ends = [int(np.flatnonzero(split_N == split)[0]) for split in (0, 2)]
    sha256 = [*table["sha256"].to_pylist(), "0" * 64, "0" * 64]
    grown = table_of(["a"] * 42, sha256=sha256, ingest_id=[0] * 40 + [1, 2])
    result = assign(grown, np.array([[end, 40] for end in ends]))
    assert result.split_N[40:].tolist() == [3, 3]


def test_newest_images_come_into_test_and_clusters_stay_whole() -> None:
    random = np.random.default_rng(4)
    day = random.permutation(365)
    stamp = [str(np.datetime64("2024-01-01") + int(number)) for number in day]
    group = [f"g{number // 5}" for number in day]
    table = table_of(["a", "b"] * 182 + ["a"], timestamp=stamp, group=group)
    result = assign(table, method="time")
    assert day[result.split_N == 0].max() < day[result.split_N == 1].min()
    assert day[result.split_N == 1].max() < day[result.split_N == 2].min()
    assert abs((result.split_N == 2).sum() - 0.15 * 365) <= 5
    assert leaks(table, result, NO_PAIRS)["group"] == 0


def test_test_images_that_are_older_than_training_images_are_counted() -> None:
    stamp = [str(np.datetime64("2024-01-01") + number) for number in range(80)]
    early = table_of(["a", "b"] * 20, timestamp=stamp[:40])
    both = table_of(["a", "b"] * 40, timestamp=stamp, ingest_id=[0] * 40 + [1] * 40)
    # 6 of the 40 images of the first ingest are its test split, and all older than the second ingest's training split.
    assert [assign(table, method="time").num_older for table in (early, both)] == [0, 6]
    assert assign(early).num_older is None


def test_folds_cover_train_and_val_and_keep_clusters_whole() -> None:
    table, near = random_manifest(5, ingest_ids=1)
    result = assign(table, near, folds=5)
    learnt = result.split_N < 2
    assert ((result.fold_N >= 0) == learnt).all()
    assert all(len(set(result.fold_N[result.cluster_N == one])) == 1 for one in set(result.cluster_N[learnt]))
    sizes = np.bincount(result.fold_N[learnt])
    assert sizes.max() - sizes.min() <= 0.1 * learnt.sum()


def test_further_splits_get_their_fraction() -> None:
    result = assign(table_of(["a", "b"] * 100), fractions={"train": 0.5, "val": 0.2, "test": 0.2, "holdout": 0.1})
    assert np.bincount(result.split_N).tolist() == [100, 40, 40, 20]
    assert result.splits == ["train", "val", "test", "holdout", EXCLUDED]


def test_repair_brings_a_cluster_to_the_split_of_most_and_carves_the_missing_split_from_train() -> None:
    given = ["train"] * 60 + ["test"] * 20
    result = assign(table_of(["a", "b"] * 40, given_split=given), np.array([[0, 60], [0, 61]]))
    assert result.split_N[[0, 60, 61]].tolist() == [2, 2, 2]
    assert set(result.split_N[1:60].tolist()) == {0, 1}
    assert set(result.split_N[60:].tolist()) == {2}


def test_keep_leaves_the_given_splits_and_the_leak_is_found() -> None:
    given = ["train"] * 60 + ["val"] * 10 + ["test"] * 10
    table = table_of(["a", "b"] * 40, given_split=given)
    near = np.array([[0, 75]])
    result = assign(table, near, given="keep", method="given")
    assert [result.splits[split] for split in result.split_N] == given
    assert leaks(table, result, near) == {"exact": 0, "near": 1, "group": 0}


def test_a_rare_class_gets_an_image_in_each_split_where_it_has_enough_clusters() -> None:
    group = [None] * 100 + ["x"] * 10 + ["y"] * 10 + ["z"] * 10
    result = assign(table_of(["common"] * 100 + ["rare"] * 30, group=group))
    assert set(result.split_N[100:].tolist()) == {0, 1, 2}


def test_another_seed_gives_another_split() -> None:
    table = table_of(["a", "b"] * 50)
    assert digest(table, assign(table)) == digest(table, assign(table)) != digest(table, assign(table, seed=8))


@pytest.mark.parametrize(
    ("table", "changes", "sentence"),
    [
        (
            table_of(["a"] * 20 + ["b"] * 2),
            {},
            "class b gets no image in the .* split: it has 2 images in 2 clusters",
        ),
        (table_of(["a"] * 20), {"method": "group"}, "needs a group for each image; 0.png has none"),
        (table_of(["a"] * 20), {"method": "given"}, "needs a given split for each image"),
        (table_of(["a"] * 20), {"method": "time"}, r"0.png has no timestamp \(20 of 20 images\)"),
        (table_of(["a"] * 2, timestamp=["2024-01-01", "soon"]), {"method": "time"}, "1.png has the timestamp 'soon'"),
        *(
            (
                table_of(["a"] * 20, group=["g"] * 20, given_split=["train", "test"] * 10),
                {"given": given},
                "group g is in test and train of the given splits .*set split.given: ignore",
            )
            for given in ("keep", "repair")
        ),
        (table_of(["a"] * 2, given_split=["train", "dev"]), {}, "names dev, which split.fractions lacks"),
        (table_of([]), {}, "no images to split"),
    ],
)
def test_data_that_can_not_be_split_are_refused_in_one_sentence(
    table: pa.Table, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        assign(table, **changes)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fractions": {"train": 0.7, "val": 0.2, "test": 0.2}}, "should be fractions that sum to 1, not 1.1"),
        ({"fractions": {"train": 0.8, "test": 0.2}}, "val has none"),
        ({"fractions": FRACTIONS | {"test": 0.0, "x": 0.15}}, "test has 0"),
        ({"fractions": {"train": 0.6, "val": 0.2, "test": 0.1, "excluded": 0.1}}, "none named excluded"),
        ({"method": "given", "given": "ignore"}, "method given needs given: repair or keep"),
        ({"folds": 1}, "folds is 0"),
        ({"method": "newest"}, "split.method"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refused:
        settings(**changes)
    assert refused.value.exit_code == 2
    assert str(refused.value).startswith("params.yaml: split")
    assert len(str(refused.value)) < 200


def off_in_groups(of_split: np.ndarray, label: np.ndarray, group: np.ndarray, fractions: Sequence[float]) -> Any:
    """How far the sizes of the splits, and each class in them, are from their fractions, in largest groups."""
    count_CP = np.zeros((label.max() + 1, len(fractions)))
    np.add.at(count_CP, (label, of_split), 1)
    count_CG = np.zeros((label.max() + 1, group.max() + 1))
    np.add.at(count_CG, (label, group), 1)
    off_CP = np.abs(count_CP - count_CP.sum(axis=1, keepdims=True) * fractions)
    off_P = np.abs(count_CP.sum(axis=0) - len(label) * np.array(fractions))
    return off_P.max() / count_CG.sum(axis=0).max(), (off_CP / count_CG.max(axis=1, keepdims=True)).max()


def grouped(label: np.ndarray, group: np.ndarray, **changes: Any) -> SplitResult:
    names = {"label": [f"class {one:02d}" for one in label], "group": [f"g{one}" for one in group]}
    return assign(table_of(**names), method="group", **changes)


REGULAR = {"50 of 10 groups": (50, 10), "50 of 8 groups": (50, 8), "20 of 9 groups": (20, 9), "3 of 7 groups": (3, 7)}


@pytest.mark.parametrize("kind", REGULAR)
def test_remainders_of_many_classes_of_groups_do_not_meet_in_one_split_or_fold(kind: str) -> None:
    classes, groups = REGULAR[kind]
    label, group = np.repeat(np.arange(classes), 3 * groups), np.arange(3 * classes * groups) // 3
    size, of_class = off_in_groups(grouped(label, group).split_N, label, group, list(FRACTIONS.values()))
    assert size <= 1
    assert of_class <= 1
    result = grouped(label, group, folds=5)
    taken = result.fold_N >= 0
    sizes = np.bincount(result.fold_N[taken])
    assert sizes.max() - sizes.min() <= 3
    assert off_in_groups(result.fold_N[taken], label[taken], group[taken], [0.2] * 5)[1] <= 1


@pytest.mark.parametrize("seed", range(12))
def test_each_split_of_any_groups_is_within_one_group_of_its_fraction(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes, groups = int(random.integers(2, 12)), int(random.integers(80, 160))
    group = np.repeat(np.arange(groups), random.integers(1, 3 + 3 * seed, groups))
    usual = random.integers(0, classes, groups) ** (1 + seed % 2) // classes ** (seed % 2)
    label = np.where(
        random.random(len(group)) < 0.3 * (seed % 3), random.integers(0, classes, len(group)), usual[group]
    )
    label = np.unique(label, return_inverse=True)[1]
    fractions = {"train": 0.5, "val": 0.2, "test": 0.2, "holdout": 0.1}
    result = grouped(label, group, fractions=fractions)
    size, of_class = off_in_groups(result.split_N, label, group, list(fractions.values()))
    assert size <= 1 + 1e-9
    assert of_class <= 1 + 1e-9
