"""What is said of the curves."""

import math
from collections.abc import Sequence

import pytest

from components.training.diagnosis import diagnose
from components.training.reports import EpochReport


def history(train: Sequence[float], val: Sequence[float], accuracy: float) -> list[EpochReport]:
    fixed = {
        "epochs": len(train),
        "val_macro_f1": accuracy,
        "learning_rate": 0.1,
        "learning_rates": [0.1],
        "seconds": 1.0,
        "images_per_second": 1.0,
        "seconds_left": 0.0,
        "cpu_percent": 0.0,
        "memory_gib": 0.0,
        "gpu_memory_gib": 0.0,
    }
    return [
        EpochReport(epoch=number, train_loss=one, val_loss=other, val_accuracy=accuracy, **fixed)  # type: ignore[arg-type]
        for number, (one, other) in enumerate(zip(train, val, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("train", "val", "accuracy", "verdict", "setting"),
    [
        ([2.3, 40.0], [2.3, 9.0], 0.1, "diverged", "train.learning_rate"),
        ([2.0, 0.5, 0.1, 0.05], [1.5, 0.8, 1.0, 1.3], 0.8, "overfits", "augment.policy"),
        ([2.0, 1.5, 1.2, 1.0], [2.0, 1.5, 1.2, 1.0], 0.7, "still improving", "train.epochs"),
        ([2.2, 2.1, 2.1, 2.1], [2.2, 2.1, 2.1, 2.1], 0.2, "underfits", "model.architecture"),
        ([2.0, 0.5, 0.1, 0.1], [1.5, 0.5, 0.2, 0.2], 0.95, "fine", ""),
    ],
)
def test_curves_are_told_apart_and_the_setting_to_try_is_named(
    train: list[float], val: list[float], accuracy: float, verdict: str, setting: str
) -> None:
    found = diagnose(history(train, val, accuracy), chance=math.log(10), section="train")
    assert found.verdict == verdict
    assert setting in found.sentence
