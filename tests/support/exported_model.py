"""A model beside its exported file, for the tests of this folder."""

from dataclasses import dataclass
from pathlib import Path

from components.models.classifier import ImageClassifier
from components.serving.onnx_classifier import ModelCard


@dataclass(frozen=True)
class Exported:
    model: ImageClassifier
    file: Path
    card: ModelCard
