"""What training tells of each epoch, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EpochReport:
    epoch: int
    """Counted from 1."""
    epochs: int
    train_loss: float
    """Mean cross-entropy over the epoch's images, in nats."""
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    learning_rate: float
    """Of the head, at the end of the epoch."""
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class FitResult:
    model: Path
    """Folder of the model from the best epoch."""
    history: list[EpochReport]
    best_epoch: int
