"""The proof that no picture stands on two sides of the split: a file that the promotion gate reads.

It is worked out from the images' own columns and the found pairs, never from the clusters that the split was dealt by.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data.duplicates.finder import DuplicatePairs, Pairs, in_order
from components.data.split.names import EXCLUDED
from components.records.leak_proof import ClassDeviation, ExcludedImage, LeakProof, SplitLeaks

PAIRS_FILE = "leaking_pairs.parquet"
"""Beside the proof: names all pairs across splits."""
_NAMED_PAIRS = 1000
"""Of each kind so many are named in the proof itself; the others are counted."""


@dataclass(frozen=True)
class Leaks:
    """Pairs of images that are one picture or one group and stand in two splits, by kind: exact, near, group; and
    embedding, where a model was named.

    Of the copies of a picture (or the members of a group) in one split the first stands for all of them.
    """

    across: dict[str, Pairs]

    @property
    def count(self) -> dict[str, int]:
        return {kind: len(pairs) for kind, pairs in self.across.items()}


def find_leaks(table: Any, near: Pairs, embedding: Pairs | None = None) -> Leaks:
    """`table` has a row an image with sha256, split and perhaps group; `near` and `embedding` name pairs of its rows.

    What is excluded is in no split, so it leaks nothing.
    """
    split_N = _codes(table["split"])
    kept = pc.not_equal(table["split"], EXCLUDED).to_numpy()
    kind_N = _codes(table["sha256"])
    found = {
        "exact": _crossing(kind_N, split_N, kept),
        "near": _near_crossing(kind_N[near], kind_N, split_N, kept),
        "group": np.empty((0, 2), np.int64),
    }
    if "group" in table.column_names:
        group_N = _codes(table["group"])
        found["group"] = _crossing(group_N, split_N, kept & (group_N >= 0))
    if embedding is not None:
        found["embedding"] = _near_crossing(kind_N[embedding], kind_N, split_N, kept)
    return Leaks(found)


def as_given(table: Any) -> Any | None:
    """The same table with the author's splits; an image that has none is excluded. None where no image has one."""
    if "given_split" not in table.column_names or table["given_split"].null_count == len(table):
        return None
    split = table["given_split"].cast(pa.string()).fill_null(EXCLUDED)
    return table.set_column(table.column_names.index("split"), "split", split)


def audit(
    table: Any,
    pairs: DuplicatePairs,
    leaks: Leaks,
    *,
    given: Leaks | None = None,
    excluded: Mapping[int, str],
    settings: Mapping[str, Any],
) -> LeakProof:
    """The leak proof: pairs across splits by type, the split's digest and the settings.

    `table` has a row an image: path, label, sha256, split, cluster, and perhaps group and given_split. `given` are the
    leaks of the author's own splits, where the split departs from them.
    """
    path, split = table["path"].combine_chunks(), table["split"].combine_chunks()
    counts = {count["values"]: count["counts"] for count in pc.value_counts(split).to_pylist()}
    found = {"exact": len(pairs.exact), "near": len(pairs.near), "group": _num_group_links(table)}
    if pairs.embedding is not None:
        found["embedding"] = len(pairs.embedding)
    return LeakProof(
        split_digest=split_digest(table["sha256"], table["label"], split),
        images=dict(sorted(counts.items())),
        clusters=pc.count_distinct(table["cluster"]).as_py(),
        pairs=found,
        comparisons_left_out=pairs.num_cut,
        all_leaking=PAIRS_FILE,
        leaks=_listed(leaks, path),
        leaks_as_given=None if given is None else _listed(given, path),
        moved_from_given_split=_moved(table, path, split),
        excluded=[ExcludedImage(path[image].as_py(), reason) for image, reason in sorted(excluded.items())],
        largest_deviation=_largest_deviation(table["label"], split, settings["fractions"]),
        settings=dict(settings),
    )


def named_pairs(table: Any, leaks: Leaks, *, splits: str) -> Any:
    """Every pair across splits, one per row: `splits` (assigned or given), kind, and path and split of both."""
    pairs = np.concatenate(list(leaks.across.values()))
    kinds = np.repeat(list(leaks.across), list(leaks.count.values()))
    columns: dict[str, Any] = {"splits": pa.repeat(splits, len(pairs)), "type": pa.array(kinds, pa.string())}
    for side, row_P in zip(("left", "right"), pairs.T, strict=True):
        for name in ("path", "split"):
            columns[f"{side}_{name}"] = table[name].take(pa.array(row_P))
    return pa.table(columns)


def split_digest(sha256: Any, label: Any, split: Any) -> str:
    """SHA-256 over the sorted (image, label, split); it changes only where content does."""
    texts = [
        pa.chunked_array([column] if isinstance(column, pa.Array) else column.chunks)
        for column in (sha256, label, split)
    ]
    large = [text.cast(pa.large_string()).combine_chunks() for text in texts]
    tab, end = (pa.scalar(text, pa.large_string()) for text in ("\t", "\n"))
    lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*large, tab), pa.scalar("", pa.large_string()), end)
    in_order = lines.take(pc.sort_indices(lines))
    return hashlib.sha256("".join(in_order.to_pylist()).encode()).hexdigest()


def _codes(column: Any) -> NDArray[np.int64]:
    """Equal texts have equal numbers; none has -1."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    codes: NDArray[np.int64] = column.dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes


def _sides(key_N: NDArray[np.int64], split_N: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first image of each key in each split, ordered by key."""
    rows = np.flatnonzero(kept)
    _, first = np.unique(key_N[rows] * (split_N.max() + 1) + split_N[rows], return_index=True)
    return rows[first]


def _crossing(key_N: NDArray[np.int64], split_N: NDArray[np.int64], kept: NDArray[np.bool_]) -> Pairs:
    """The first image of a key with the first of that key in each other split."""
    if not kept.any():
        return np.empty((0, 2), np.int64)
    sides = _sides(key_N, split_N, kept)
    _, start, count = np.unique(key_N[sides], return_index=True, return_counts=True)
    first = np.repeat(sides[start], count)
    return in_order(np.stack([first, sides], axis=1)[first != sides])


def _near_crossing(
    near_kinds: Pairs, kind_N: NDArray[np.int64], split_N: NDArray[np.int64], kept: NDArray[np.bool_]
) -> Pairs:
    """Each side of one picture with each side of the other, where they differ."""
    if not len(near_kinds) or not kept.any():
        return np.empty((0, 2), np.int64)
    sides = _sides(kind_N, split_N, kept)
    bounds = np.searchsorted(kind_N[sides], np.arange(kind_N.max() + 2))
    left, right = near_kinds.T
    count_left, count_right = (bounds[one + 1] - bounds[one] for one in (left, right))
    count = count_left * count_right
    pair = np.repeat(np.arange(len(near_kinds)), count)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
    across, down = np.divmod(within, np.maximum(count_right[pair], 1))
    first, second = sides[bounds[left[pair]] + across], sides[bounds[right[pair]] + down]
    return in_order(np.stack([first, second], axis=1)[split_N[first] != split_N[second]])


def _num_group_links(table: Any) -> int:
    if "group" not in table.column_names:
        return 0
    groups = table["group"].drop_null()
    return len(groups) - int(pc.count_distinct(groups).as_py())


def _listed(leaks: Leaks, path: Any) -> SplitLeaks:
    return SplitLeaks(
        pairs_across_splits=leaks.count,
        leaking={kind: _named(crossing, path) for kind, crossing in leaks.across.items()},
        leaking_unnamed={kind: max(0, count - _NAMED_PAIRS) for kind, count in leaks.count.items()},
    )


def _named(pairs: Pairs, path: Any) -> list[tuple[str, str]]:
    return [(path[int(left)].as_py(), path[int(right)].as_py()) for left, right in pairs[:_NAMED_PAIRS]]


def _moved(table: Any, path: Any, split: Any) -> list[str]:
    if "given_split" not in table.column_names:
        return []
    moved = pc.fill_null(pc.not_equal(table["given_split"].cast(pa.string()).combine_chunks(), split), False)
    paths: list[str] = path.filter(moved).to_pylist()
    return paths


def _largest_deviation(label: Any, split: Any, fractions: Mapping[str, float]) -> ClassDeviation:
    """Where the share that a class has in a split lies furthest from the split's fraction."""
    label_N, splits = label.combine_chunks().dictionary_encode(), list(fractions)
    split_N = pc.index_in(split, value_set=pa.array(splits)).fill_null(len(splits)).to_numpy()
    shape = (len(label_N.dictionary), len(splits) + 1)
    flat = np.bincount(label_N.indices.to_numpy() * shape[1] + split_N, minlength=shape[0] * shape[1])
    count_LP = flat.reshape(shape)[:, :-1]
    share_LP = count_LP / np.maximum(count_LP.sum(axis=1, keepdims=True), 1)
    off_LP = np.abs(share_LP - np.array([fractions[name] for name in splits]))
    worst, at = np.unravel_index(off_LP.argmax(), off_LP.shape)
    return ClassDeviation(
        label=label_N.dictionary[int(worst)].as_py(),
        split=splits[int(at)],
        fraction=round(float(share_LP[worst, at]), 6),
        configured=fractions[splits[int(at)]],
    )
