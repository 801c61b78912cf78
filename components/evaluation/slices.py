"""Scores of slices of the test images: of each class at every level, of small and large, dark and bright, sharp and
blurred ones, of stretches of time, and of each value of any other column of the manifest, the worst first.

Many slices are looked at, so some are low by chance: the p value of a slice is corrected by Holm (1979, "A simple
sequentially rejective multiple test procedure") for all slices of the list.

Letters: N images, S slices, K classes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.bootstrap import fraction_interval
from components.evaluation.level_predictions import finest_level
from components.evaluation.model_comparison import holm
from components.evaluation.predictions import Predictions
from components.evaluation.slice_resamples import macro_f1_of_slices
from components.records.scores import SliceScores

MIN_IMAGES = 20
CLASS, SIZE = "class", "size_px"
_TIME = "timestamp"
_LABELS = ("label", "labels", "ingested_label", "ingested_labels")
_NAMES_ITSELF = ("path", "sha256", *_LABELS, "shard", "offset", "problem", "split", "fold", "cluster")
_NO_SLICE = frozenset(
    (*_NAMES_ITSELF, "hash", "mirror_hash", "thumbnail", "colours", "width_px", "height_px", "further")
)
"""Columns that identify images rather than group them, or that another column expresses better."""
_BINS, _FEW_VALUES = 4, 8


@dataclass(frozen=True)
class _Slice:
    column: str
    value: str
    rows: NDArray[np.int64]


def slice_scores(
    predictions: Predictions, table: Any, *, min_images: int = MIN_IMAGES, num_resamples: int = 0, seed: int = 7
) -> list[SliceScores]:
    """Of every slice with enough images, the lowest accuracy first; with `num_resamples` the macro F1 has an interval.

    `table` is a pyarrow table with a row an image and the column path; images that it lacks are in no slice but those
    of the classes.
    """
    slices = [
        one
        for one in (
            *_of_classes(predictions),
            *_of_coarser_levels(predictions),
            *_of_columns(_aligned(predictions, table)),
        )
        if min_images <= len(one.rows) < len(predictions.path_N)
    ]
    if not slices:
        return []
    from scipy.stats import hypergeom

    correct_N = predictions.correct_N
    errors_S = np.array([int((~correct_N[one.rows]).sum()) for one in slices])
    images_S = np.array([len(one.rows) for one in slices])
    p_S = hypergeom.sf(errors_S - 1, len(correct_N), int((~correct_N).sum()), images_S)
    level = finest_level(predictions)
    f1_S, interval_S = macro_f1_of_slices(level, [one.rows for one in slices], num_resamples=num_resamples, seed=seed)
    scores = [
        SliceScores(
            column=one.column,
            value=one.value,
            images=int(images),
            accuracy=float(1 - errors / images),
            interval=fraction_interval(int(images - errors), int(images)),
            macro_f1=macro_f1,
            macro_f1_interval=interval,
            p_worse=float(p),
            p_corrected=float(corrected),
        )
        for one, images, errors, macro_f1, interval, p, corrected in zip(
            slices, images_S, errors_S, f1_S, interval_S, p_S, holm(p_S), strict=True
        )
    ]
    return sorted(scores, key=lambda one: (one.accuracy, -one.images, one.column, one.value))


def _of_classes(predictions: Predictions) -> Iterator[_Slice]:
    for label, rows in zip(predictions.classes, finest_level(predictions).positives(), strict=True):
        yield _Slice(CLASS, label, rows)


def _of_coarser_levels(predictions: Predictions) -> Iterator[_Slice]:
    """The finest level is that of the classes."""
    for level in predictions.task.coarser_levels():
        yield from _by_value(level.name, [level.classes[index] for index in level.ancestor_K[predictions.target]])


def _aligned(predictions: Predictions, table: Any) -> Mapping[str, list[Any]]:
    """Columns in the order of the predictions; None for an image that the table lacks."""
    row_of = {path: row for row, path in enumerate(table["path"].to_pylist())}
    rows = [row_of.get(path) for path in predictions.path_N]
    import pyarrow as pa

    taken = table.take(pa.array(rows, pa.int64()))
    columns = {name: taken[name].to_pylist() for name in table.column_names if name not in _NO_SLICE}
    if {"width_px", "height_px"} <= set(table.column_names):
        sides = zip(taken["width_px"].to_pylist(), taken["height_px"].to_pylist(), strict=True)
        columns[SIZE] = [
            None if width is None or height is None else (width * height) ** 0.5 for width, height in sides
        ]
    further = _further(taken["further"].to_pylist()) if "further" in table.column_names else {}
    # A measured column keeps its name beside a column of the same name in the user's table.
    return columns | {f"given {name}" if name in columns else name: values for name, values in further.items()}


def _further(texts: Sequence[str | None]) -> dict[str, list[Any]]:
    """The user's own columns; of numbers where all values are, also where a table of text holds them."""
    records = [json.loads(text) if text else {} for text in texts]
    names = dict.fromkeys(name for one in records for name in one)
    columns = {name: [one.get(name) for one in records] for name in names}
    return {name: _numbers(values) or values for name, values in columns.items()}


def _numbers(values: Sequence[Any]) -> list[float | None] | None:
    """None where one of them is no number."""
    try:
        found = [None if value is None else float(value) for value in values]
    except ValueError:
        return None
    return [int(number) if number is not None and number.is_integer() else number for number in found]


def _of_columns(columns: Mapping[str, list[Any]]) -> Iterator[_Slice]:
    for name, values in sorted(columns.items()):
        if any(isinstance(value, list | dict | bytes) for value in values):
            continue
        if name == _TIME:
            yield from _by_time(name, values)
            continue
        known = {value for value in values if value is not None}
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
        yield from _by_quantile(name, values) if numbers and len(known) > _FEW_VALUES else _by_value(name, values)


def _by_value(column: str, values: list[Any]) -> Iterator[_Slice]:
    rows_of: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if value is not None:
            rows_of.setdefault(str(value), []).append(row)
    for value, rows in sorted(rows_of.items()):
        yield _Slice(column, value, np.array(rows))


def _by_time(column: str, values: list[Any]) -> Iterator[_Slice]:
    """Periods of about equally many images, named by the days of their ends."""
    import pandas as pd

    moment_N = pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601", utc=True, errors="coerce")
    second_N = np.asarray((moment_N - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1), np.float64)
    yield from _in_bins(column, second_N, lambda second: f"{pd.Timestamp(second, unit='s'):%Y-%m-%d}")


def _by_quantile(column: str, values: list[Any]) -> Iterator[_Slice]:
    """Bins of about equally many images."""
    number_N = np.array([np.nan if value is None else value for value in values], np.float64)
    yield from _in_bins(column, number_N, lambda edge: f"{edge:.4g}")


def _in_bins(column: str, number_N: NDArray[np.float64], title: Callable[[float], str]) -> Iterator[_Slice]:
    """Images without a number are in no bin."""
    if np.isnan(number_N).all():
        return
    edges = np.unique(np.nanquantile(number_N, np.linspace(0, 1, _BINS + 1)))
    bin_N = np.clip(np.searchsorted(edges, number_N, side="right") - 1, 0, len(edges) - 2)
    for index, (low, high) in enumerate(pairwise(edges)):
        rows = np.flatnonzero((bin_N == index) & np.isfinite(number_N))
        yield _Slice(column, f"{title(low)} to {title(high)}", rows)
