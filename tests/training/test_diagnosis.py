"""What is said of the curves."""

import math
from collections.abc import Sequence

import pytest

from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.training.diagnosis import diagnose
from components.training.epoch_report import EpochReport


def history(train: Sequence[float], val: Sequence[float], accuracy: float) -> list[EpochReport]:
    fixed = {
        "epochs": len(train),
        "val_macro_f1": accuracy,
        "learning_rate": 0.1,
        "learning_rates": [0.1],
        "seconds": 1.0,
        "images_per_second": 1.0,
        "seconds_left": 0.0,
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
        ([2.3], [2.2], 0.2, "too early", "train.epochs"),
        ([2.3, 2.2], [2.3, 2.2], 0.2, "too early", "still falls, from 2.3 to 2.2; try more train.epochs"),
        ([2.3, 2.3], [2.2, 2.3], 0.1, "too early", "went from 2.2 to 2.3; try more train.epochs"),
    ],
)
def test_curves_are_distinguished_and_the_setting_to_try_is_named(
    train: list[float], val: list[float], accuracy: float, verdict: str, setting: str
) -> None:
    guess = math.log(10)
    found = diagnose(history(train, val, accuracy), train_chance=guess, val_chance=guess, section="train")
    assert found.verdict == verdict
    assert setting in found.sentence


@pytest.mark.parametrize(
    ("train", "val", "accuracy", "train_chance", "verdict"),
    [
        ([0.7, 0.69, 0.69], [2.3, 2.3, 2.3], 0.1, 0.33, "underfits"),
        ([0.023, 0.023, 0.023], [2.3, 2.3, 2.3], 0.1, 0.023, "underfits"),
        ([1.9, 1.6, 1.5], [1.2, 0.7, 0.7], 0.8, 2.3, "fine"),
        ([0.3, 2.0, 9.0], [2.3, 2.4, 2.5], 0.1, 0.33, "diverged"),
        ([300.0, 60.0, 20.0], [1.5, 0.8, 1.3], 0.8, 230.0, "overfits"),
        ([0.3, 0.31, 0.32], [1.5, 0.8, 1.3], 0.8, 0.33, "underfits"),
    ],
    ids=["binary", "weighted", "mixed", "binary diverged", "heavy weights", "noise of one that learns nothing"],
)
def test_a_training_loss_of_another_type_is_compared_with_its_own_chance_level(
    train: list[float], val: list[float], accuracy: float, train_chance: float, verdict: str
) -> None:
    curves = history(train, val, accuracy)
    found = diagnose(curves, train_chance=train_chance, val_chance=math.log(10), section="train")
    assert found.verdict == verdict


def test_the_chance_of_a_hierarchy_weighs_its_levels() -> None:
    tree = Hierarchy.of([("x", "a"), ("x", "b"), ("y", "c")], ["coarse", "fine"])
    assert tree.chance_loss() == pytest.approx(math.log(2) + math.log(3))
    assert tree.chance_loss([0.5, 1.0]) == pytest.approx(0.5 * math.log(2) + math.log(3))
    assert SingleLabel.of(["a", "b", "c"]).chance_loss() == pytest.approx(math.log(3))
    assert MultiLabel.of([["a", "b", "c"]]).chance_loss() == pytest.approx(math.log(2))
