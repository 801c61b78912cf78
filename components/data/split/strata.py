"""The columns of the validated images that a split needs, as numbers, small and fast for a million rows."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.shared.errors import DataError

NO_LABEL = ""
"""The stratum of images without any label, in multi-label data."""
_LEVELS_JOINED_BY = "/"


@dataclass(frozen=True)
class Names:
    """A text column as codes."""

    names: list[str]
    """The distinct texts, sorted."""
    code_N: NDArray[np.int64]
    """Index of each row's text in `names`; -1 where there is none."""

    @classmethod
    def of(cls, column: Any) -> Self:
        names = sorted(pc.unique(column.drop_null()).to_pylist())
        codes = pc.index_in(column, value_set=pa.array(names, pa.string())).fill_null(-1)
        return cls(names, codes.to_numpy().astype(np.int64))


@dataclass(frozen=True)
class Strata:
    """The strata of a split: the labels, and in a hierarchy the labels of each level too."""

    names: list[str]
    of_label: list[list[int]]
    """For each distinct label text, the indices in `names` of the strata of its images."""
    nested: bool
    """Whether the label text determines all strata, as for single labels and hierarchies."""


@dataclass(frozen=True)
class SplitImages:
    """The columns of N images that a split needs."""

    path: Any
    """pyarrow array of text."""
    sha256: Any
    """pyarrow array of 64 hexadecimal digits."""
    label: Names
    strata: Strata
    group: Names
    given: Names
    timestamp: Any
    """pyarrow array of text, ISO 8601."""
    ingest_id_N: NDArray[np.int64]
    """The ingest that brought the image; 0 is the first."""
    ingested: tuple[Names, Strata] | None = None
    """Labels and strata as ingested; None if no label was corrected."""

    @classmethod
    def from_table(cls, table: Any) -> Self:
        """Reads path, label and sha256, and where they exist labels, group, given_split, timestamp, ingest_id,
        ingested_label and ingested_labels (before their correction)."""
        if not len(table):
            raise DataError("there are no images to split; ingest some first")
        label = Names.of(table["label"])
        if (unlabeled := np.flatnonzero(label.code_N < 0)).size:
            raise DataError(f"{table['path'][int(unlabeled[0])]} has no label; fill it or remove the image")
        return cls(
            path=table["path"].combine_chunks(),
            sha256=table["sha256"].combine_chunks(),
            label=label,
            strata=_strata(label, _column(table, "labels")),
            group=Names.of(_text(table, "group")),
            given=Names.of(_text(table, "given_split")),
            timestamp=_text(table, "timestamp").combine_chunks(),
            ingest_id_N=_ingest_id(table),
            ingested=_ingested(table),
        )

    def __len__(self) -> int:
        return len(self.ingest_id_N)

    @property
    def as_ingested(self) -> Self:
        """The same images with the labels before their correction."""
        if self.ingested is None:
            return self
        label, strata = self.ingested
        return replace(self, label=label, strata=strata, ingested=None)

    @cached_property
    def content_N(self) -> NDArray[np.int64]:
        """A number for each distinct content: images of equal bytes have equal numbers."""
        numbers: NDArray[np.int64] = self.sha256.dictionary_encode().indices.to_numpy().astype(np.int64)
        return numbers

    @cached_property
    def hash_N(self) -> NDArray[np.uint64]:
        """The first 64 bits of each SHA-256."""
        hexadecimal = "".join(pc.utf8_slice_codeunits(self.sha256, 0, 16).to_pylist())
        return np.frombuffer(bytes.fromhex(hexadecimal), ">u8").astype(np.uint64)

    def path_of(self, image: int) -> str:
        return str(self.path[int(image)].as_py())


def times_of(images: SplitImages) -> NDArray[np.int64]:
    """Nanoseconds since 1970; a time without a zone is taken as UTC. Raises DataError where an image has no time."""
    import pandas as pd

    times = pd.to_datetime(
        pd.Series(images.timestamp.to_pylist(), dtype=object), format="ISO8601", utc=True, errors="coerce"
    )
    unknown = np.flatnonzero(times.isna().to_numpy())
    if len(unknown):
        value = images.timestamp[int(unknown[0])].as_py()
        found = "no timestamp" if value is None else f"the timestamp {value!r}, which isn't ISO 8601"
        raise DataError(
            f"split.method time needs the time of each image; {images.path_of(unknown[0])} has {found} "
            f"({len(unknown)} of {len(images)} images); fix them or choose another method"
        )
    nanoseconds = times.dt.as_unit("ns").astype("int64").to_numpy()
    return np.asarray(nanoseconds, np.int64)


def _text(table: Any, name: str) -> Any:
    if name in table.column_names:
        return table[name].cast(pa.string())
    return pa.chunked_array([pa.nulls(len(table), pa.string())])


def _ingest_id(table: Any) -> NDArray[np.int64]:
    if "ingest_id" not in table.column_names:
        return np.zeros(len(table), np.int64)
    ingest_ids: NDArray[np.int64] = table["ingest_id"].fill_null(0).to_numpy().astype(np.int64)
    return ingest_ids


def _column(table: Any, name: str) -> Any | None:
    return table[name] if name in table.column_names else None


def _ingested(table: Any) -> tuple[Names, Strata] | None:
    if (column := _column(table, "ingested_label")) is None:
        return None
    label = Names.of(column)
    return label, _strata(label, _column(table, "ingested_labels"))


def _strata(label: Names, labels: Any) -> Strata:
    if labels is None:
        return Strata(label.names, [[code] for code in range(len(label.names))], nested=True)
    _, first_L = np.unique(label.code_N, return_index=True)
    sets = [
        found or [name] for found, name in zip(labels.take(pa.array(first_L)).to_pylist(), label.names, strict=True)
    ]
    several = [(found, name) for found, name in zip(sets, label.names, strict=True) if len(found) > 1]
    nested = all(_LEVELS_JOINED_BY.join(found) == name for found, name in several)
    if nested:
        sets = [[_LEVELS_JOINED_BY.join(found[: depth + 1]) for depth in range(len(found))] for found in sets]
    names = sorted({name for found in sets for name in found})
    code_of = {name: code for code, name in enumerate(names)}
    return Strata(names, [[code_of[name] for name in found] for found in sets], nested)
