"""Analysis of a model beyond its scores: where it fails, how robust it is to corrupted images, what it looks at.

Letters: N images, T logits, F features, E near images, H height, W width, C channels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components.data.images.preprocessing import PreprocessSettings
from components.data.packed.image_stores import ImageRows
from components.data.packed.loaders import PackedSplit
from components.evaluation.bootstrap import Interval
from components.evaluation.calibration import reliability
from components.evaluation.embedding_map import embedding_map
from components.evaluation.error_analysis import (
    high_confidence_errors,
    low_confidence_correct,
    nearest,
    suspected_labels,
)
from components.evaluation.inference import features_of, logits_of
from components.evaluation.ood import folder_images, noise_images, ood_scores, shuffled_images
from components.evaluation.predictions import Predictions
from components.evaluation.robustness import Answer, Robustness, robustness, sample
from components.evaluation.saliency import attention_map, grad_cam
from components.evaluation.settings import EvaluateSettings
from components.evaluation.slices import slice_scores
from components.models.classifier import ImageClassifier
from components.models.ensemble import Ensemble
from components.records.analysis import (
    AnalysisRecord,
    InspectedImage,
    Neighbour,
    OodScores,
    ReliabilityBin,
    SuspectedLabel,
)
from components.records.scores import SliceScores
from components.shared.progress import Progress

NEIGHBOURS = 3
_MOST_KNOWN, _KNOWN_PIXELS = 20_000, 10**8
"""Training images among which the nearest are sought: as many as their pixels allow in half a minute on two cores."""
_MOST_OOD, _LEAST_OOD, _OOD_PIXELS = 500, 100, 4 * 10**6
"""OOD images, likewise."""


@dataclass(frozen=True)
class EmbeddingMap:
    rows: NDArray[np.int64]
    """Indices among the predictions."""
    point_N2: NDArray[np.float64]


@dataclass(frozen=True)
class HeatMaps:
    """What speaks for the prediction, in the order of the inspected images."""

    rows: list[int]
    grad_cam_NHW: NDArray[np.float32] | None
    attention_NHW: NDArray[np.float32] | None


@dataclass(frozen=True)
class Analysis:
    slices: list[SliceScores] = field(default_factory=list)
    """The lowest accuracy first."""
    reliability: list[ReliabilityBin] = field(default_factory=list)
    robustness: Robustness = field(default_factory=Robustness)
    ood: list[OodScores] = field(default_factory=list)
    high_confidence_errors: list[InspectedImage] = field(default_factory=list)
    low_confidence_correct: list[InspectedImage] = field(default_factory=list)
    suspected_labels: list[SuspectedLabel] = field(default_factory=list)
    heat_maps: HeatMaps | None = None
    map: EmbeddingMap | None = None

    def as_record(self) -> AnalysisRecord:
        """The record of it; slices are recorded with the scores, the map and the heat maps are files of their own."""
        return AnalysisRecord(
            reliability=self.reliability,
            robustness=self.robustness.scores,
            robustness_means=self.robustness.means,
            ood=self.ood,
            high_confidence_errors=self.high_confidence_errors,
            low_confidence_correct=self.low_confidence_correct,
            suspected_labels=self.suspected_labels,
        )

    def headline(self) -> dict[str, float]:
        """Scalars for a tracking server: means over the strengths, and how well OOD images are detected."""
        found = {f"accuracy_under_{one.corruption}": one.accuracy for one in self.robustness.means}
        return found | {f"ood_auroc_{one.name}": one.energy_auroc for one in self.ood}

    def headline_intervals(self) -> dict[str, Interval]:
        """Of the headline, by the same names."""
        found = {
            f"accuracy_under_{one.corruption}": one.interval
            for one in self.robustness.means
            if one.interval is not None
        }
        return found | {f"ood_auroc_{one.name}": one.energy_auroc_interval for one in self.ood}


def analyse_predictions(
    answer: Answer,
    predictions: Predictions,
    *,
    pixels_NHWC: ImageRows,
    preprocess: PreprocessSettings,
    table: Any,
    settings: EvaluateSettings,
    folder: Path,
    progress: Progress,
) -> Analysis:
    """Analysis of the predictions alone, for a model in any format; `pixels_NHWC` are their images.

    `table` has the columns of the images, `folder` holds evaluate.ood.
    """
    return Analysis(
        slices=slice_scores(
            predictions,
            table,
            min_images=settings.min_slice_images,
            num_resamples=settings.bootstrap_resamples,
            seed=settings.seed,
        ),
        reliability=reliability(*_confidences(predictions)),
        robustness=_robustness(answer, predictions, pixels_NHWC, settings, progress),
        ood=_ood(answer, predictions, pixels_NHWC, preprocess, settings, folder),
    )


def analyse(
    model: ImageClassifier,
    predictions: Predictions,
    *,
    test: PackedSplit,
    train: PackedSplit,
    table: Any,
    settings: EvaluateSettings,
    folder: Path,
    progress: Progress,
) -> Analysis:
    """Analysis of the test predictions and of the inside of the torch model."""
    known_rows = np.flatnonzero(train.copy_N == 0)
    most_known = min(_MOST_KNOWN, _KNOWN_PIXELS // model.spec.preprocess.image_size_px**2)
    known_rows = known_rows[sample(len(known_rows), most_known, settings.seed)]
    inspect = _inspector(model, predictions, test, train, known_rows) if settings.inspected_images else None
    errors = inspect(high_confidence_errors(predictions, settings.inspected_images)) if inspect else []
    correct = inspect(low_confidence_correct(predictions, settings.inspected_images)) if inspect else []
    of_predictions = analyse_predictions(
        lambda images_NHWC: logits_of(model, images_NHWC),
        predictions,
        pixels_NHWC=test.pixels_NHWC,
        preprocess=model.spec.preprocess,
        table=table,
        settings=settings,
        folder=folder,
        progress=progress,
    )
    return replace(
        of_predictions,
        high_confidence_errors=errors,
        low_confidence_correct=correct,
        suspected_labels=suspected_labels(predictions, settings.inspected_images),
        heat_maps=_heat_maps(model, predictions, test, [one.row for one in errors or correct]),
        map=_map(model, test, settings),
    )


def _confidences(predictions: Predictions) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    return predictions.task.outcomes(predictions.probabilities_NK, predictions.predicted, predictions.target)


def _robustness(
    answer: Answer,
    predictions: Predictions,
    pixels_NHWC: ImageRows,
    settings: EvaluateSettings,
    progress: Progress,
) -> Robustness:
    if not settings.robustness_images:
        return Robustness()
    return robustness(
        answer,
        predictions,
        pixels_NHWC,
        most=settings.robustness_images,
        top_k=settings.top_k,
        num_resamples=settings.bootstrap_resamples,
        seed=settings.seed,
        progress=progress,
    )


def _ood(
    answer: Answer,
    predictions: Predictions,
    pixels_NHWC: ImageRows,
    preprocess: PreprocessSettings,
    settings: EvaluateSettings,
    folder: Path,
) -> list[OodScores]:
    threshold = predictions.rule.ood_threshold
    if threshold is None:
        return []
    others: Mapping[str, NDArray[np.uint8]]
    most = max(_LEAST_OOD, min(_MOST_OOD, _OOD_PIXELS // preprocess.image_size_px**2))
    if settings.ood is not None:
        others = {"given": folder_images(folder / settings.ood, preprocess, most=most)}
    else:
        rows = sample(len(predictions.path_N), most, settings.seed)
        others = {
            "noise": noise_images(len(rows), preprocess.image_size_px, seed=settings.seed),
            "shuffled": shuffled_images(np.array(pixels_NHWC[rows]), seed=settings.seed),
        }
    return [
        ood_scores(
            name,
            predictions.logits_NT,
            answer(images_NHWC),
            predictions.task,
            rule=predictions.rule,
            threshold=threshold,
        )
        for name, images_NHWC in others.items()
    ]


def _inspector(
    model: ImageClassifier,
    predictions: Predictions,
    test: PackedSplit,
    train: PackedSplit,
    known_rows: NDArray[np.int64],
) -> Callable[[Sequence[int]], list[InspectedImage]]:
    known_NF = np.concatenate(
        [
            features_of(model, train.pixels_NHWC[block])
            for block in np.array_split(known_rows, -(-len(known_rows) // 1024))
        ]
    )
    predicted, labels = (predictions.task.names(chosen) for chosen in (predictions.predicted, predictions.target))
    known_labels = train.task.names(train.target)

    def inspect(rows: Sequence[int]) -> list[InspectedImage]:
        if not rows:
            return []
        features_NF = features_of(model, np.array(test.pixels_NHWC[np.array(rows)]))
        index_NE, cosine_NE = nearest(features_NF, known_NF, count=NEIGHBOURS)
        found = []
        for row, near_E, cosine_E in zip(rows, known_rows[index_NE], cosine_NE, strict=True):
            neighbours = [
                Neighbour(train.path_N[near], known_labels[near], float(cosine))
                for near, cosine in zip(near_E, cosine_E, strict=True)
            ]
            confidence = float(predictions.confidence_N[row])
            found.append(
                InspectedImage(
                    row, predictions.path_N[row], labels[row], predicted[row], confidence, neighbours, near_E.tolist()
                )
            )
        return found

    return inspect


def _heat_maps(model: ImageClassifier, predictions: Predictions, test: PackedSplit, rows: list[int]) -> HeatMaps | None:
    # An ensemble has no one map of features or attention: its members look at different things.
    if not rows or isinstance(model, Ensemble):
        return None
    device = next(model.buffers()).device
    images_BHWC = torch.from_numpy(np.array(test.pixels_NHWC[np.array(rows)])).to(device)
    task = predictions.task
    # The logits of the classes stand behind those of the levels above.
    class_B = task.class_logits(predictions.logits_NT[rows]).argmax(axis=1) + task.num_logits - len(task.classes)
    chosen_B = torch.from_numpy(class_B).to(device)
    return HeatMaps(rows, grad_cam(model, images_BHWC, chosen_B), attention_map(model, images_BHWC))


def _map(model: ImageClassifier, test: PackedSplit, settings: EvaluateSettings) -> EmbeddingMap | None:
    if not settings.embedding_map_images:
        return None
    rows = sample(len(test), settings.embedding_map_images, settings.seed)
    features_NF = features_of(model, np.array(test.pixels_NHWC[rows]))
    return EmbeddingMap(rows, embedding_map(features_NF, seed=settings.seed))
