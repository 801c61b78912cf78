"""The audit finds what a split tears apart, whoever made it."""

from typing import Any

import numpy as np
import pyarrow as pa

from components.data.duplicates.finder import DuplicatePairs
from components.data.split.leak_proof import PAIRS_FILE, Leaks, as_given, audit, find_leaks, named_pairs, split_digest
from components.records.leak_proof import ClassDeviation, ExcludedImage

NO_PAIRS = np.empty((0, 2), np.int64)


def table_of(sha256: str, split: list[str], **columns: list[Any]) -> pa.Table:
    """One image a letter of `sha256`; equal letters are equal bytes."""
    names = [f"{number}.png" for number in range(len(sha256))]
    own: dict[str, Any] = {"path": names, "label": ["a"] * len(names), "sha256": list(sha256), "split": split}
    return pa.table(own | {"cluster": list(range(len(names)))} | columns)


def test_copies_in_two_splits_leak_and_copies_in_one_do_not() -> None:
    leaks = find_leaks(table_of("xxyyz", ["train", "train", "train", "test", "val"]), NO_PAIRS)
    assert leaks.across["exact"].tolist() == [[2, 3]]
    assert leaks.count == {"exact": 1, "near": 0, "group": 0}


def test_a_near_pair_leaks_through_any_copy_of_its_pictures() -> None:
    # The pair is found between the first copies, 0 and 2; the copy 1 stands elsewhere.
    leaks = find_leaks(table_of("xxy", ["train", "test", "train"]), np.array([[0, 2]]))
    assert leaks.across["near"].tolist() == [[1, 2]]


def test_pairs_of_a_named_model_are_a_leak_type_of_their_own() -> None:
    leaks = find_leaks(table_of("xyz", ["train", "test", "train"]), NO_PAIRS, np.array([[0, 1], [0, 2]]))
    assert leaks.count == {"exact": 0, "near": 0, "group": 0, "embedding": 1}


def test_a_group_in_three_splits_is_named_once_a_split() -> None:
    table = table_of("abcd", ["train", "val", "test", "test"], group=["g", "g", "g", None])
    assert find_leaks(table, NO_PAIRS).across["group"].tolist() == [[0, 1], [0, 2]]


def test_what_is_excluded_hides_no_leak_and_makes_none() -> None:
    table = table_of("xxx", ["excluded", "train", "test"], group=["g", "g", "g"])
    leaks = find_leaks(table, np.array([[0, 1]]))
    assert leaks.across["exact"].tolist() == [[1, 2]]
    assert find_leaks(table_of("xx", ["excluded", "test"]), NO_PAIRS).count["exact"] == 0


def test_the_proof_names_leaks_moves_and_exclusions() -> None:
    table = table_of("xxy", ["train", "test", "excluded"], given_split=["train", "train", None])
    pairs = DuplicatePairs(exact=np.array([[0, 1]]), near=NO_PAIRS, embedding=NO_PAIRS, num_cut=5)
    fractions = {"train": 0.7, "val": 0.15, "test": 0.15}
    leaks = find_leaks(table, NO_PAIRS)
    given = as_given(table)
    given_leaks = find_leaks(given, NO_PAIRS)
    settings = {"fractions": fractions}
    proof = audit(table, pairs, leaks, given=given_leaks, excluded={2: "joins two"}, settings=settings)
    assert proof.leaks.pairs_across_splits == {"exact": 1, "near": 0, "group": 0}
    assert proof.comparisons_left_out == 5
    assert proof.leaks_as_given is not None
    assert proof.leaks_as_given.pairs_across_splits == {"exact": 0, "near": 0, "group": 0}
    assert proof.leaks.leaking["exact"] == [("0.png", "1.png")]
    assert proof.moved_from_given_split == ["1.png"]
    assert proof.excluded == [ExcludedImage("2.png", "joins two")]
    assert proof.images == {"excluded": 1, "test": 1, "train": 1}
    assert proof.largest_deviation == ClassDeviation("a", "test", fraction=0.5, configured=0.15)


def test_the_proof_names_a_bounded_number_of_pairs_and_its_table_all() -> None:
    table = table_of("x" * 1200, ["train"] * 1200, given_split=["train"] * 1200)
    every = np.stack([np.zeros(1199, np.int64), np.arange(1, 1200)], axis=1)
    pairs = DuplicatePairs(exact=every, near=NO_PAIRS, embedding=None, num_cut=0)
    leaks = Leaks({"exact": every, "near": every[:3]})
    proof = audit(table, pairs, leaks, excluded={}, settings={"fractions": {"train": 1.0}})
    assert (len(proof.leaks.leaking["exact"]), proof.leaks.leaking_unnamed) == (1000, {"exact": 199, "near": 0})
    assert proof.leaks_as_given is None
    assert proof.all_leaking == PAIRS_FILE
    found = named_pairs(table, leaks, splits="assigned")
    assert found["type"].to_pylist() == ["exact"] * 1199 + ["near"] * 3
    assert found.slice(1198, 1).to_pylist() == [
        {
            "splits": "assigned",
            "type": "exact",
            "left_path": "0.png",
            "left_split": "train",
            "right_path": "1199.png",
            "right_split": "train",
        }
    ]


def test_where_nothing_leaks_the_table_of_pairs_is_empty() -> None:
    table = table_of("xy", ["train", "test"])
    found = named_pairs(table, find_leaks(table, NO_PAIRS), splits="given")
    assert (len(found), found.schema) == (0, named_pairs(table, Leaks({"near": np.array([[0, 1]])}), splits="").schema)


def test_splits_as_given_hold_what_the_author_gave_alone() -> None:
    table = table_of("xxx", ["train", "train", "train"], given_split=["train", "test", None])
    assert find_leaks(as_given(table), NO_PAIRS).count["exact"] == 1
    assert as_given(table.drop_columns(["given_split"])) is None
    assert as_given(table_of("xx", ["train", "train"], given_split=pa.nulls(2, pa.string()))) is None


def test_the_digest_knows_content_label_and_split_but_no_order() -> None:
    first = split_digest(pa.array(["x", "y"]), pa.array(["a", "b"]), pa.array(["train", "test"]))
    assert first == split_digest(pa.array(["y", "x"]), pa.array(["b", "a"]), pa.array(["test", "train"]))
    assert first != split_digest(pa.array(["x", "y"]), pa.array(["a", "b"]), pa.array(["test", "train"]))
    assert first != split_digest(pa.array(["x", "y"]), pa.array(["a", "a"]), pa.array(["train", "test"]))
