"""analysis.json: calibration, robustness, out-of-distribution scores, inspected images and suspected labels."""

from dataclasses import dataclass
from typing import ClassVar

from components.records.record import Record
from components.records.scores import Interval

ANALYSIS = "analysis.json"
HIGH_CONFIDENCE_ERRORS, LOW_CONFIDENCE_CORRECT = "high_confidence_errors.png", "low_confidence_correct.png"
"""Pictures beside it."""
UNCORRUPTED = "none"
ALL_CORRUPTIONS = "corruptions"


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of about the same confidence."""

    images: int
    confidence: float
    """Mean confidence of the predictions."""
    accuracy: float


@dataclass(frozen=True)
class CorruptedScores:
    """Scores of the test images under one corruption at one strength."""

    corruption: str
    """`none` for the original images."""
    strength: int
    """From 1 to 5; 0 for the original images."""
    images: int
    accuracy: float
    interval: Interval
    """Of the accuracy (Wilson 1927)."""
    macro_f1: float
    macro_f1_interval: Interval | None
    """By the bootstrap, as those below; None without resamples."""
    balanced_accuracy: float
    balanced_accuracy_interval: Interval | None
    log_loss: float
    log_loss_interval: Interval | None
    expected_calibration_error: float
    expected_calibration_error_interval: Interval | None


@dataclass(frozen=True)
class MeanAccuracy:
    """Mean over the strengths of a corruption, or over all corruptions."""

    corruption: str
    """`corruptions` for all of them."""
    accuracy: float
    interval: Interval | None
    """By the bootstrap; None without resamples."""


@dataclass(frozen=True)
class OodScores:
    """How well two scores separate one set of out-of-distribution images from the test images."""

    name: str
    images: int
    energy_auroc: float
    """1 where every OOD image has a larger free energy than every test image; 0.5 is chance."""
    energy_auroc_interval: Interval
    """From its standard error (DeLong 1988), as of the ROC AUC of a class."""
    max_probability_auroc: float
    """The same by one minus the probability of the prediction (Hendrycks and Gimpel 2017)."""
    max_probability_auroc_interval: Interval
    detected: float
    """Fraction of the OOD images above the threshold."""
    detected_interval: Interval
    """Wilson 1927."""


@dataclass(frozen=True)
class Neighbour:
    path: str
    label: str
    similarity: float
    """Cosine of the features, in [-1, 1]."""


@dataclass(frozen=True)
class InspectedImage:
    """A test image worth a look, with the training images nearest to it."""

    row: int
    """Index among the predictions."""
    path: str
    label: str
    predicted: str
    confidence: float
    neighbours: list[Neighbour]
    neighbour_rows: list[int]
    """Indices in the training split."""


@dataclass(frozen=True)
class SuspectedLabel:
    path: str
    label: str
    suggested: str
    score: float
    """One minus the probability that the model gives the label."""


class AnalysisRecord(Record):
    TITLE: ClassVar[str] = "analysis"
    REMEDY: ClassVar[str] = "evaluate the model again with `darkroom evaluate`"

    reliability: list[ReliabilityBin]
    robustness: list[CorruptedScores]
    """The original images first; empty where the settings leave it out."""
    robustness_means: list[MeanAccuracy]
    ood: list[OodScores]
    high_confidence_errors: list[InspectedImage]
    low_confidence_correct: list[InspectedImage]
    suspected_labels: list[SuspectedLabel]
