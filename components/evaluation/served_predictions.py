"""Predictions of the file that ships, over a packed split or over raw image files.

Letters: N images, T logits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.packed.image_stores import ImageRows
from components.data.packed.loaders import PackedSplit
from components.evaluation.predictions import Predictions
from components.serving.onnx_classifier import OnnxClassifier

_BATCH = 64


def predict_packed(model: OnnxClassifier, split: PackedSplit) -> Predictions:
    """Of the images of a split, in their order."""
    return Predictions(
        path_N=split.path_N,
        sha256_N=split.sha256_N,
        target=split.target,
        logits_NT=logits_of_squares(model, split.pixels_NHWC),
        task=model.card.labels,
        rule=model.card.decision_rule,
    )


@dataclass(frozen=True)
class ImageFiles:
    """Images as the files that they came as, for models that see them at another size."""

    path_N: list[str]
    sha256_N: list[str]
    labels_N: list[list[str]]
    """One; or a set; or a hierarchy's, from the coarsest to the finest."""
    read: Callable[[int], bytes]
    """The bytes of the image at an index."""

    def __len__(self) -> int:
        return len(self.path_N)

    def at(self, indices: Sequence[int]) -> "ImageFiles":
        return ImageFiles(
            path_N=[self.path_N[index] for index in indices],
            sha256_N=[self.sha256_N[index] for index in indices],
            labels_N=[self.labels_N[index] for index in indices],
            read=lambda number: self.read(indices[number]),
        )


def predictions_of_files(model: OnnxClassifier, files: ImageFiles) -> Predictions:
    """Raises DataError where an image has a label that the model doesn't know."""
    return Predictions(
        path_N=files.path_N,
        sha256_N=files.sha256_N,
        target=model.card.labels.targets(files.labels_N),
        logits_NT=_logits_of_files(model, files),
        task=model.card.labels,
        rule=model.card.decision_rule,
    )


def predicted_names(model: OnnxClassifier, files: ImageFiles) -> list[str]:
    """The predicted label of each image; several labels joined by `|`."""
    card = model.card
    return card.labels.names(card.labels.predictions(_logits_of_files(model, files), card.decision_rule))


def accuracy_and_macro_f1(label_N: Sequence[str], predicted_N: Sequence[str]) -> tuple[float, float]:
    """Computed on class names, so that models with other class lists compare; macro over classes with images."""
    from sklearn.metrics import accuracy_score, f1_score

    present = sorted(set(label_N))
    f1 = f1_score(label_N, predicted_N, labels=present, average="macro", zero_division=0)
    return float(accuracy_score(label_N, predicted_N)), float(f1)


def logits_of_squares(model: OnnxClassifier, pixels_NHWC: ImageRows) -> NDArray[np.float32]:
    """[N, T], a batch at a time."""
    starts = range(0, len(pixels_NHWC), _BATCH)
    return np.concatenate([model.logits(np.array(pixels_NHWC[start : start + _BATCH])) for start in starts])


def _logits_of_files(model: OnnxClassifier, files: ImageFiles) -> NDArray[np.float32]:
    """[N, T], through the model's own preprocessing; a batch of images is in memory at a time."""
    starts = range(0, len(files), _BATCH)
    batches = (range(start, min(start + _BATCH, len(files))) for start in starts)
    return np.concatenate([model.logits(np.stack([model.square(files.read(n)) for n in batch])) for batch in batches])
