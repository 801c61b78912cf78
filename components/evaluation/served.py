"""Predictions of the file that ships, over a packed part or over raw image files.

Letters: N images, T logits.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from components.data.loading import PackedPart
from components.data.stores import ImageRows
from components.evaluation.predictions import Predictions
from components.serving.classifier import OnnxClassifier

_BATCH = 64


def predict_packed(model: OnnxClassifier, part: PackedPart) -> Predictions:
    return Predictions(
        path_N=part.path_N,
        sha256_N=part.sha256_N,
        target=part.target,
        logits_NT=_logits(model, part.pixels_NHWC),
        space=model.card.labels,
        answers=model.card.answers,
    )


def labels_of_files(model: OnnxClassifier, contents: Iterable[bytes]) -> list[str]:
    """What is said of each image file, through the model's own preprocessing; of sets their names joined by `|`."""
    squares = np.stack([model.square(content) for content in contents])
    card = model.card
    return card.labels.names(card.labels.answers(_logits(model, squares), card.answers))


def accuracy_and_macro_f1(label_N: Sequence[str], predicted_N: Sequence[str]) -> tuple[float, float]:
    """By class names, so that models with other class lists compare; macro over the classes that the images have."""
    from sklearn.metrics import accuracy_score, f1_score

    present = sorted(set(label_N))
    f1 = f1_score(label_N, predicted_N, labels=present, average="macro", zero_division=0)
    return float(accuracy_score(label_N, predicted_N)), float(f1)


def _logits(model: OnnxClassifier, pixels_NHWC: ImageRows) -> NDArray[np.float32]:
    starts = range(0, len(pixels_NHWC), _BATCH)
    return np.concatenate([model.logits(np.array(pixels_NHWC[start : start + _BATCH])) for start in starts])
