"""scores.json: every score of a model on the test images, with intervals, classes, confused pairs and slices."""

from dataclasses import dataclass, field
from typing import ClassVar

from components.records.record import Record

SCORES = "scores.json"

Interval = tuple[float, float]
"""Lower and upper end of a 95% interval."""


@dataclass(frozen=True)
class ClassScores:
    label: str
    precision: float
    """In [0, 1]; 0 where the class was never predicted."""
    recall: float
    f1: float
    roc_auc: float
    """One against the rest; NaN where the split holds only one of the two."""
    average_precision: float
    images: int
    true_positives: int
    """Images that have the class and were predicted to; with the next three the confusion of class and rest."""
    false_negatives: int
    false_positives: int
    true_negatives: int
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Of precision, recall and F1 by the bootstrap, of the other two from their standard error."""


@dataclass(frozen=True)
class ConfusedPair:
    """How often images of one class were predicted as another; multi-label: predicted instead of a missed label."""

    label: str
    predicted: str
    images: int
    fraction: float
    """Of the images of the class."""


@dataclass(frozen=True)
class SliceScores:
    """Scores of the test images that share a value of a column."""

    column: str
    value: str
    """Of the column; of a numeric column the range, such as 0.12 to 0.31."""
    images: int
    accuracy: float
    """Fraction of exactly right predictions."""
    interval: Interval
    """Of the accuracy (Wilson 1927)."""
    macro_f1: float
    """Mean over the classes that the images of the slice have."""
    macro_f1_interval: Interval | None
    """By the bootstrap; None without resamples."""
    p_worse: float
    """Probability of so many errors or more, were the errors spread over all images by chance (hypergeometric)."""
    p_corrected: float
    """The same, corrected by Holm for all slices of the list."""


@dataclass(frozen=True)
class LevelScores:
    """Scores of one level of a hierarchy above the classes."""

    values: dict[str, float]
    intervals: dict[str, Interval]
    classes: list[ClassScores]


class ScoresRecord(Record):
    TITLE: ClassVar[str] = "record of scores"
    REMEDY: ClassVar[str] = "evaluate the model again with `darkroom evaluate`"

    task: str
    """Name of the label type: single_label, multi_label or hierarchy."""
    images: int
    """Test images that were scored."""
    top_k: int
    """The k of the top-k accuracy."""
    resamples: int
    """Bootstrap resamples behind the intervals; 0: there are none."""
    values: dict[str, float]
    """Every score by name; NaN where it is not defined."""
    intervals: dict[str, Interval]
    classes: list[ClassScores]
    confusion: list[list[int]] | None
    """Rows: true classes; columns: predicted ones. None for many classes and for multi-label data."""
    confused: list[ConfusedPair]
    """The most frequent first."""
    levels: dict[str, LevelScores]
    """Levels of a hierarchy above the classes, the coarsest first."""
    slices: list[SliceScores]
    """The slices with the lowest accuracy, the lowest first."""
    num_slices: int
    """Of all slices."""
