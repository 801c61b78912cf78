"""Predictions of the file that ships over a packed part or over raw files."""

from collections.abc import Sequence

import numpy as np

from components.data.loading import PackedPart
from components.evaluation.predictions import Predictions
from components.serving.classifier import OnnxClassifier

_BATCH = 64


def predict_packed(model: OnnxClassifier, part: PackedPart) -> Predictions:
    starts = range(0, len(part), _BATCH)
    logits = [model.logits(np.array(part.pixels_NHWC[start : start + _BATCH])) for start in starts]
    return Predictions(part.path_N, part.sha256_N, part.class_index_N, np.concatenate(logits), model.card.classes)


def labels_of_files(model: OnnxClassifier, contents: Sequence[bytes]) -> list[str]:
    """The predicted class of each image file, through the model's own preprocessing."""
    labels: list[str] = []
    for start in range(0, len(contents), _BATCH):
        squares = np.stack([model.square(content) for content in contents[start : start + _BATCH]])
        labels += [model.card.classes[index] for index in model.logits(squares).argmax(axis=1)]
    return labels
