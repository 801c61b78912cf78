"""The proof that no image, duplicate or group is in two splits; the promotion gate reads it.

It is computed from the columns of the images and the duplicate pairs alone, never from the clusters of the splitter.
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
"""Table beside the proof that lists all pairs across splits."""
_NAMED_PAIRS = 1000
"""Number of pairs of each type that the proof itself lists; the others are counted."""


@dataclass(frozen=True)
class Leaks:
    """Pairs of duplicates, or of images of one group, in two splits, by type: exact, near, group, and, if a model is
    configured, embedding.

    Of the copies of an image (or the images of a group) in one split, the first represents all of them.
    """

    across: dict[str, Pairs]

    @property
    def count(self) -> dict[str, int]:
        return {type_: len(pairs) for type_, pairs in self.across.items()}


def find_leaks(table: Any, near: Pairs, embedding: Pairs | None = None) -> Leaks:
    """The leaks of a table of images (sha256, split, perhaps group); `near` and `embedding` are pairs of its rows.

    Excluded images are in no split, so they can't leak.
    """
    split_N = _codes(table["split"])
    included_N = pc.not_equal(table["split"], EXCLUDED).to_numpy()
    content_N = _codes(table["sha256"])
    found = {
        "exact": _across(content_N, split_N, included_N),
        "near": _near_across(content_N[near], content_N, split_N, included_N),
        "group": np.empty((0, 2), np.int64),
    }
    if "group" in table.column_names:
        group_N = _codes(table["group"])
        found["group"] = _across(group_N, split_N, included_N & (group_N >= 0))
    if embedding is not None:
        found["embedding"] = _near_across(content_N[embedding], content_N, split_N, included_N)
    return Leaks(found)


def as_given(table: Any) -> Any | None:
    """The table with the author's splits; an image without one is excluded. None if no image has one."""
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

    `table` has one row per image: path, label, sha256, split, cluster, and perhaps group and given_split. `given` are
    the leaks of the author's splits, if the split departs from them.
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
        candidates=pairs.num_candidates,
        all_leaking=PAIRS_FILE,
        leaks=_listed(leaks, path),
        leaks_as_given=None if given is None else _listed(given, path),
        moved_from_given_split=_moved(table, path, split),
        excluded=[ExcludedImage(path[image].as_py(), reason) for image, reason in sorted(excluded.items())],
        largest_deviation=_largest_deviation(table["label"], split, settings["fractions"]),
        settings=dict(settings),
    )


def named_pairs(table: Any, leaks: Leaks, *, splits: str) -> Any:
    """Every pair across splits, one per row: `splits` (assigned or given), type, and path and split of both."""
    pairs = np.concatenate(list(leaks.across.values()))
    types = np.repeat(list(leaks.across), list(leaks.count.values()))
    columns: dict[str, Any] = {"splits": pa.repeat(splits, len(pairs)), "type": pa.array(types, pa.string())}
    for side, row_P in zip(("left", "right"), pairs.T, strict=True):
        for name in ("path", "split"):
            columns[f"{side}_{name}"] = table[name].take(pa.array(row_P))
    return pa.table(columns)


def split_digest(sha256: Any, label: Any, split: Any) -> str:
    """SHA-256 of the sorted (sha256, label, split) of all images; the order of the rows doesn't matter."""
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
    """A number for each distinct text; -1 where there is none."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    codes: NDArray[np.int64] = column.dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
    return codes


def _first_rows(
    key_N: NDArray[np.int64], split_N: NDArray[np.int64], included_N: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The first row of each key in each split, ordered by key."""
    candidates = np.flatnonzero(included_N)
    _, first = np.unique(key_N[candidates] * (split_N.max() + 1) + split_N[candidates], return_index=True)
    return candidates[first]


def _across(key_N: NDArray[np.int64], split_N: NDArray[np.int64], included_N: NDArray[np.bool_]) -> Pairs:
    """Pairs of the first row of a key and its first row in each other split."""
    if not included_N.any():
        return np.empty((0, 2), np.int64)
    rows = _first_rows(key_N, split_N, included_N)
    _, start, count = np.unique(key_N[rows], return_index=True, return_counts=True)
    first = np.repeat(rows[start], count)
    return in_order(np.stack([first, rows], axis=1)[first != rows])


def _near_across(
    near_contents: Pairs, content_N: NDArray[np.int64], split_N: NDArray[np.int64], included_N: NDArray[np.bool_]
) -> Pairs:
    """Pairs of the first rows of two near-duplicate contents, in different splits."""
    if not len(near_contents) or not included_N.any():
        return np.empty((0, 2), np.int64)
    rows = _first_rows(content_N, split_N, included_N)
    bounds = np.searchsorted(content_N[rows], np.arange(content_N.max() + 2))
    left, right = near_contents.T
    count_left, count_right = (bounds[one + 1] - bounds[one] for one in (left, right))
    count = count_left * count_right
    pair = np.repeat(np.arange(len(near_contents)), count)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
    across, down = np.divmod(within, np.maximum(count_right[pair], 1))
    first, second = rows[bounds[left[pair]] + across], rows[bounds[right[pair]] + down]
    return in_order(np.stack([first, second], axis=1)[split_N[first] != split_N[second]])


def _num_group_links(table: Any) -> int:
    if "group" not in table.column_names:
        return 0
    groups = table["group"].drop_null()
    return len(groups) - int(pc.count_distinct(groups).as_py())


def _listed(leaks: Leaks, path: Any) -> SplitLeaks:
    return SplitLeaks(
        pairs_across_splits=leaks.count,
        leaking={type_: _named(pairs, path) for type_, pairs in leaks.across.items()},
        leaking_unnamed={type_: max(0, count - _NAMED_PAIRS) for type_, count in leaks.count.items()},
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
    """The class and split whose fraction deviates most from the configured one."""
    label_N, splits = label.combine_chunks().dictionary_encode(), list(fractions)
    split_N = pc.index_in(split, value_set=pa.array(splits)).fill_null(len(splits)).to_numpy()
    shape = (len(label_N.dictionary), len(splits) + 1)
    flat = np.bincount(label_N.indices.to_numpy() * shape[1] + split_N, minlength=shape[0] * shape[1])
    count_LP = flat.reshape(shape)[:, :-1]
    fraction_LP = count_LP / np.maximum(count_LP.sum(axis=1, keepdims=True), 1)
    deviation_LP = np.abs(fraction_LP - np.array([fractions[name] for name in splits]))
    worst, at = np.unravel_index(deviation_LP.argmax(), deviation_LP.shape)
    return ClassDeviation(
        label=label_N.dictionary[int(worst)].as_py(),
        split=splits[int(at)],
        fraction=round(float(fraction_LP[worst, at]), 6),
        configured=fractions[splits[int(at)]],
    )
