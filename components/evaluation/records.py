"""Evaluations as files: JSON for programs and people, Parquet for whoever asks more of them.

scores.json       every score with its interval, classes, confused pairs, the worst slices
classes.parquet   a row a class (and level)
slices.parquet    a row a slice, the lowest accuracy first
analysis.json     calibration, corruptions, strange images, mistakes with their neighbours, suspected labels
map.parquet       a row an image of the embedding's map, with a small picture
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from components.data.stores import ImageRows
from components.data.tables import write_table
from components.evaluation.analysis import Analysis
from components.evaluation.metrics import Scores
from components.evaluation.predictions import Predictions
from components.evaluation.slices import SliceScores
from components.files import write_json

SCORES, CLASSES, SLICES, ANALYSIS, MAP = (
    "scores.json",
    "classes.parquet",
    "slices.parquet",
    "analysis.json",
    "map.parquet",
)
_RECORDED_SLICES = 200
_THUMBNAIL_PX = 48


def write_scores(folder: Path, scores: Scores, slices: Sequence[SliceScores]) -> None:
    """scores.json, classes.parquet and slices.parquet."""
    record = scores.as_record() | {
        "slices": [asdict(one) for one in slices[:_RECORDED_SLICES]],
        "num_slices": len(slices),
    }
    write_json(folder / SCORES, record)
    write_table(folder / CLASSES, pa.Table.from_pylist(list(_class_rows(scores))))
    names = [field.name for field in fields(SliceScores)]
    columns = {name: [getattr(one, name) for one in slices] for name in names}
    write_table(folder / SLICES, pa.table(columns))


def write_analysis(folder: Path, analysis: Analysis, predictions: Predictions, pixels_NHWC: ImageRows) -> None:
    """analysis.json and, where there is a map, map.parquet."""
    write_json(folder / ANALYSIS, analysis.as_record())
    if analysis.map is None:
        return
    rows = analysis.map.rows
    columns = {
        "path": [predictions.path_N[row] for row in rows],
        "label": predictions.space.names(predictions.target[rows]),
        "said": predictions.space.names(predictions.predicted[rows]),
        "right": predictions.correct_N[rows],
        "x": analysis.map.place_N2[:, 0],
        "y": analysis.map.place_N2[:, 1],
        "picture": [_thumbnail(pixels_NHWC[row]) for row in rows],
    }
    write_table(folder / MAP, pa.table(columns))


def _class_rows(scores: Scores) -> Iterator[dict[str, Any]]:
    for level, of_level in (*scores.levels.items(), ("", scores)):
        for one in of_level.classes:
            row = asdict(one)
            intervals = row.pop("intervals")
            yield {"level": level, **row} | {
                f"{name}_{end}": edges[place]
                for name, edges in intervals.items()
                for place, end in enumerate(("low", "high"))
            }


def _thumbnail(pixels_HWC: Any) -> bytes:
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()
