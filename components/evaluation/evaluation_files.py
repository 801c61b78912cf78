"""Evaluations as files: JSON for programs and people, Parquet for further analysis.

scores.json       every score with its interval, classes, confused pairs, the worst slices
classes.parquet   a row a class (and level), with its confusion with the rest
confusion.parquet a row a true class and a class predicted for some of its images (and level); not for multi-label
                  tasks, whose confusion is that of each label
slices.parquet    a row a slice, the lowest accuracy first
analysis.json     calibration, corruptions, out-of-distribution images, errors with their neighbours, suspected labels
map.parquet       a row an image of the embedding's map, with a small picture
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from components.data.packed.image_stores import ImageRows
from components.evaluation.metrics import MATRIX_CLASSES, Scores
from components.evaluation.model_analysis import Analysis
from components.evaluation.predictions import Predictions
from components.records.analysis import ANALYSIS
from components.records.scores import SCORES, LevelScores, ScoresRecord, SliceScores
from components.shared.parquet import write_table

CLASSES, CONFUSION, SLICES, MAP = "classes.parquet", "confusion.parquet", "slices.parquet", "map.parquet"
_RECORDED_SLICES = 200
_THUMBNAIL_PX = 48


def write_scores(folder: Path, scores: Scores, slices: Sequence[SliceScores]) -> None:
    """scores.json, classes.parquet, slices.parquet and, but of sets of labels, confusion.parquet."""
    _scores_record(scores, slices).write(folder / SCORES)
    write_table(folder / CLASSES, pa.Table.from_pylist(list(_class_rows(scores))))
    if scores.confusion is not None:
        write_table(folder / CONFUSION, pa.concat_tables([_confusion_table(*one) for one in _levels(scores)]))
    names = [field.name for field in fields(SliceScores)]
    columns = {name: [getattr(one, name) for one in slices] for name in names}
    write_table(folder / SLICES, pa.table(columns))


def write_analysis(folder: Path, analysis: Analysis, predictions: Predictions, pixels_NHWC: ImageRows) -> None:
    """analysis.json and, where there is a map, map.parquet."""
    analysis.as_record().write(folder / ANALYSIS)
    if analysis.map is None:
        return
    rows = analysis.map.rows
    columns = {
        "path": [predictions.path_N[row] for row in rows],
        "label": predictions.task.names(predictions.target[rows]),
        "predicted": predictions.task.names(predictions.predicted[rows]),
        "correct": predictions.correct_N[rows],
        "x": analysis.map.point_N2[:, 0],
        "y": analysis.map.point_N2[:, 1],
        "picture": [_thumbnail(pixels_NHWC[row]) for row in rows],
    }
    write_table(folder / MAP, pa.table(columns))


def _scores_record(scores: Scores, slices: Sequence[SliceScores]) -> ScoresRecord:
    matrix = scores.confusion if len(scores.classes) <= MATRIX_CLASSES else None
    return ScoresRecord(
        task=scores.task,
        images=scores.images,
        top_k=scores.top_k,
        resamples=scores.resamples,
        values=scores.values,
        intervals=scores.intervals,
        classes=scores.classes,
        confusion=matrix.tolist() if matrix is not None else None,
        confused=scores.confused,
        levels={name: LevelScores(one.values, one.intervals, one.classes) for name, one in scores.levels.items()},
        slices=list(slices[:_RECORDED_SLICES]),
        num_slices=len(slices),
    )


def _class_rows(scores: Scores) -> Iterator[dict[str, Any]]:
    for level, of_level in _levels(scores):
        for one in of_level.classes:
            row = asdict(one)
            intervals = row.pop("intervals")
            yield {"level": level, **row} | {
                f"{name}_{end}": edges[index]
                for name, edges in intervals.items()
                for index, end in enumerate(("low", "high"))
            }


def _levels(scores: Scores) -> list[tuple[str, Scores]]:
    """The coarsest first; the classes themselves have an empty level name."""
    return [*scores.levels.items(), ("", scores)]


def _confusion_table(level: str, scores: Scores) -> pa.Table:
    """The cells that aren't empty, so that the table stays small with many classes."""
    matrix = scores.confusion if scores.confusion is not None else np.zeros((0, 0), np.int64)
    true_C, pred_C = np.nonzero(matrix)
    labels = pa.array([one.label for one in scores.classes], pa.string())
    return pa.table(
        {
            "level": pa.array([level] * len(true_C), pa.string()),
            "label": labels.take(pa.array(true_C)),
            "predicted": labels.take(pa.array(pred_C)),
            "images": matrix[true_C, pred_C],
        }
    )


def _thumbnail(pixels_HWC: Any) -> bytes:
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()
