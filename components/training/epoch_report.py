"""What training tells of each epoch, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SCORES = ("val_loss", "val_accuracy", "val_macro_f1")
"""What validation tells of a model."""


@dataclass(frozen=True)
class EpochReport:
    epoch: int
    """Counted from 1."""
    epochs: int
    train_loss: float
    """Mean over the epoch's images, in nats."""
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    learning_rate: float
    """Of the head, at the end of the epoch."""
    learning_rates: list[float]
    """Of each group of parts that learns, from the image to the head."""
    seconds: float
    """Validation included."""
    images_per_second: float
    """In training alone."""
    seconds_left: float
    """Until the last epoch is done, if the others take as long."""
    cpu_percent: float
    """Of one core, by this process and those that it started, over the epoch or the last second."""
    memory_gib: float
    """Resident in these processes at the end of the epoch."""
    gpu_memory_gib: float
    """The most that was taken on the GPU; 0 without one."""


@dataclass(frozen=True)
class Diagnosis:
    verdict: Literal["diverged", "underfits", "overfits", "still improving", "too early", "fine"]
    sentence: str
    """What the curves say, and the setting to try."""


@dataclass(frozen=True)
class FitResult:
    model: Path
    """Folder of the model: of the best epoch, or of a soup."""
    history: list[EpochReport]
    best_epoch: int
    scores: dict[str, float]
    """Of the model on validation, by the names in SCORES."""
    diagnosis: Diagnosis
