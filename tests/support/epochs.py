"""Reports of epochs to change."""

from typing import Any

from components.training.epoch_report import EpochReport


def epoch_report(epoch: int, **changes: Any) -> EpochReport:
    fields: dict[str, Any] = {
        "epochs": 3,
        "train_loss": 1.0,
        "val_loss": 1.0,
        "val_accuracy": 0.9,
        "val_macro_f1": 0.8,
        "learning_rate": 0.1,
        "learning_rates": [0.1],
        "seconds": 1.5,
        "images_per_second": 100.0,
        "seconds_left": 0.0,
        "gpu_memory_gib": 0.0,
    }
    return EpochReport(epoch=epoch, **fields | changes)
