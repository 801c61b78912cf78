"""A model as an object that answers images, for who imports Darkroom. Imports neither torch nor Prefect."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.data.images.decoding import has_more_frames, pixels_of
from components.data.images.preprocessing import to_square
from components.serving.batch_prediction import FIRST_FRAME, batch_size
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_records import PredictionOptions, Record, prediction_records
from components.shared.errors import DataError
from flows.serving.predict import open_model

ImageSource = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
"""A path, the content of an image file, an image of Pillow's, or uint8 pixels: RGB [H, W, 3] or grey [H, W]."""

_PROBABILITY, _LEVEL = "probability:", "level_"


@dataclass(frozen=True)
class Prediction:
    """What a model answers to an image."""

    label: str
    """The predicted class; a|b of several labels, a/b of a hierarchy."""
    labels: tuple[str, ...]
    """The predicted classes: one, or of a model of several labels any number."""
    probability: float
    """Calibrated, of the label."""
    probabilities: dict[str, float]
    """Of every class."""
    ood_score: float
    """Larger is less like the training images."""
    out_of_distribution: bool | None
    """Whether the score is above the model's threshold; None for a model without one."""
    answer: str | None = None
    """In words, such as `cat` or `not sure: cat or dog`; None, as the two below, where the model has no such sets."""
    sure: bool | None = None
    """Whether one class is left, or of many labels each is decided; never where it is out-of-distribution."""
    prediction_set: tuple[str, ...] | None = None
    """The classes that the image may have, the most probable first."""
    levels: dict[str, str] = field(default_factory=dict)
    """Of a hierarchy: the predicted class on each coarser level."""
    note: str | None = None
    """Such as that only the first of several frames was classified."""
    model: str = ""
    """models:/NAME/VERSION, or the file with the start of its SHA-256."""


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    project: str | os.PathLike[str] | None = None,
    provider: str | None = None,
    threads: int = 0,
) -> "Model":
    """Opens models:/NAME@ALIAS, NAME/VERSION or an .onnx file; by default the champion of the project.

    `project` is a folder in a project, by default the working directory; `provider` and `threads` (0: all cores) say
    what computes. Raises SettingsError where there is no such model, and ServiceError where its file isn't the one that
    was registered, or isn't the one that the ledger promoted.
    """
    folder = Path(project) if project is not None else None
    name = os.fspath(model) if model is not None else None
    return Model(*open_model(name, threads=threads, provider=provider, folder=folder))


class Model:
    """Answers an image, or many; the same object may serve several threads."""

    def __init__(self, classifier: OnnxClassifier, name: str) -> None:
        self._classifier, self.name = classifier, name

    def __repr__(self) -> str:
        return f"darkroom.Model({self.name!r})"

    @property
    def classes(self) -> list[str]:
        return list(self._classifier.card.classes)

    @property
    def sha256(self) -> str:
        """Of the ONNX file."""
        return self._classifier.sha256

    def __call__(self, image: ImageSource) -> Prediction:
        """The prediction; raises UndecodableImage, or DataError for what is no image at all."""
        return next(self.predict([image]))

    def predict(self, images: Iterable[ImageSource]) -> Iterator[Prediction]:
        """A prediction for each image, in order, computed in batches; the first that can't be read raises."""
        images = iter(images)
        while batch := list(islice(images, batch_size(self._classifier))):
            read = [self._square(image) for image in batch]
            logits_BT = self._classifier.logits(np.stack([square_HWC for square_HWC, _ in read]))
            card = self._classifier.card
            options = PredictionOptions(probabilities=True)
            chosen = card.labels.names(card.labels.predictions(logits_BT, card.decision_rule), joined=False)
            records = prediction_records(logits_BT, card, options)
            sets = self._sets(logits_BT)
            for record, labels, possible, (_, note) in zip(records, chosen, sets, read, strict=True):
                names = (labels,) if isinstance(labels, str) else tuple(labels)
                yield self._prediction(record, names, possible, note)

    def _sets(self, logits_BT: NDArray[np.float32]) -> list[tuple[str, ...] | None]:
        """As names, for a class may have the sign in its name that joins them in a record."""
        card = self._classifier.card
        if card.decision_rule.set_thresholds is None:
            return [None] * len(logits_BT)
        probability_BK = card.labels.probabilities(logits_BT, temperature=card.decision_rule.temperature)
        in_set_BDC = card.labels.prediction_sets(probability_BK, card.decision_rule)
        return [tuple(card.labels.answer(*one).possible) for one in zip(in_set_BDC, probability_BK, strict=True)]

    def _square(self, image: ImageSource) -> tuple[NDArray[np.uint8], str | None]:
        """As the model sees it, and what there is to say about it."""
        settings = self._classifier.card.preprocess
        if isinstance(image, Image.Image):
            return to_square(pixels_of(image, max_megapixels=settings.max_megapixels), settings), None
        if isinstance(image, np.ndarray):
            return to_square(_rgb(image), settings), None
        if not isinstance(image, bytes | str | os.PathLike):
            raise DataError(f"{type(image).__name__} is no image; give a path, bytes, a Pillow image or uint8 pixels")
        content = image if isinstance(image, bytes) else _content(image)
        return self._classifier.square(content), FIRST_FRAME if has_more_frames(content) else None

    def _prediction(
        self, record: Record, labels: tuple[str, ...], possible: tuple[str, ...] | None, note: str | None
    ) -> Prediction:
        levels = self._classifier.card.labels.coarser_levels()
        return Prediction(
            label=record["label"],
            labels=labels,
            probability=record["probability"],
            probabilities={name: record[f"{_PROBABILITY}{name}"] for name in self.classes},
            ood_score=record["ood_score"],
            out_of_distribution=record.get("out_of_distribution"),
            answer=record.get("answer"),
            sure=record.get("sure"),
            prediction_set=possible,
            levels={level.name: record[f"{_LEVEL}{level.name}"] for level in levels},
            note=note,
            model=self.name,
        )


def _content(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise DataError(f"{os.fspath(path)}: can't be read: {problem.strerror or problem}") from None


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    is_grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (is_grey or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        raise DataError(
            f"pixels are {pixels.dtype} of {list(pixels.shape)}, should be uint8 of [H, W, 3] (RGB, not BGR) or [H, W]"
        )
    return np.repeat(pixels[..., None], 3, axis=2) if is_grey else np.ascontiguousarray(pixels)
