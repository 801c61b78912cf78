"""Records of a training: each epoch, the diagnosis, and the result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SCORES = ("val_loss", "val_accuracy", "val_macro_f1")
"""Names of the validation scores."""


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
    """Learning rate of the head at epoch end."""
    learning_rates: list[float]
    """Learning rate of each parameter group of the optimizer at epoch end, from the image to the head."""
    seconds: float
    """Duration of the epoch with its validation."""
    images_per_second: float
    """Speed of training, without validation."""
    seconds_left: float
    """Estimated time until the last epoch is done."""
    gpu_memory_gib: float
    """Peak of allocated GPU memory; 0 without a GPU."""


@dataclass(frozen=True)
class Diagnosis:
    verdict: Literal["diverged", "underfits", "overfits", "still improving", "too early", "fine"]
    sentence: str
    """The verdict in words, with the setting to try."""


@dataclass(frozen=True)
class FitResult:
    model: Path
    """Folder of the model of the best epoch, or of the soup."""
    history: list[EpochReport]
    best_epoch: int
    scores: dict[str, float]
    """Validation scores of the model, by the names in SCORES."""
    diagnosis: Diagnosis
