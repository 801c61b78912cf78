"""What a model says of each image, as a table, for each kind of labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.evaluation.predictions import Predictions, read_predictions, write_predictions
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule

TASKS = {
    "single_label": SingleLabel.of([["cat"], ["dog, big"], ["Ä 🐈"]]),
    "multi_label": MultiLabel.of([["cat", "dog, big"], ["Ä 🐈"]]),
    "hierarchy": Hierarchy.of([["pet", "cat"], ["pet", "dog, big"], ["wild", "Ä 🐈"]], ["kind", "name"]),
}
RULE = DecisionRule(temperature=1.5, thresholds=[0.3, 0.5, 0.7])


def some(name: str = "single_label", count: int = 5) -> Predictions:
    random, task = np.random.default_rng(0), TASKS[name]
    target: Any = random.integers(0, 3, count) if task.exclusive else random.random((count, 3)) < 0.5
    return Predictions(
        path_N=[f"cat/ä {number}.png" for number in range(count)],
        sha256_N=[f"{number:064x}" for number in range(count)],
        target=target,
        logits_NT=random.normal(size=(count, task.num_logits)).astype(np.float32),
        task=task,
        rule=RULE,
    )


@pytest.mark.parametrize("count", [1, 5, 300])
@pytest.mark.parametrize("task", TASKS)
def test_predictions_come_back_as_they_were_written(tmp_path: Path, task: str, count: int) -> None:
    written = some(task, count)
    write_predictions(tmp_path / "p.parquet", written)
    read = read_predictions(tmp_path / "p.parquet")
    assert (read.path_N, read.sha256_N, read.task) == (written.path_N, written.sha256_N, written.task)
    assert read.rule == RULE
    assert np.array_equal(read.target, written.target)
    assert read.target.dtype == written.target.dtype
    assert np.array_equal(read.logits_NT, written.logits_NT)
    assert read.logits_NT.dtype == np.float32
    assert np.array_equal(read.predicted, written.predicted)


@pytest.mark.parametrize("task", TASKS)
def test_the_table_can_be_read_without_this_code(tmp_path: Path, task: str) -> None:
    write_predictions(tmp_path / "p.parquet", some(task))
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["label"].to_pylist() == some(task).task.names(some(task).target)
    assert table["predicted"].to_pylist() == some(task).task.names(some(task).predicted)


def test_equal_predictions_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_predictions(tmp_path / name, some())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_answer_is_the_class_with_the_largest_logit() -> None:
    task = SingleLabel.of(["x", "y"])
    found = Predictions(["a", "b"], ["", ""], np.array([1, 1]), np.array([[0, 2], [3, 1]], np.float32), task)
    assert found.predicted.tolist() == [1, 0]
    assert found.correct_N.tolist() == [True, False]
    assert found.confidence_N == pytest.approx(found.probabilities_NK.max(axis=1))


def test_a_set_is_right_when_all_of_it_is_and_each_label_has_its_own_threshold() -> None:
    task = MultiLabel.of([["x"], ["y"]])
    logit_of = {share: np.log(share / (1 - share)) for share in (0.2, 0.4, 0.6, 0.9)}
    logits_NT = np.array([[logit_of[0.4], logit_of[0.6]], [logit_of[0.9], logit_of[0.2]]], np.float32)
    target = np.array([[True, False], [True, True]])
    found = Predictions(["a", "b"], ["", ""], target, logits_NT, task, DecisionRule(thresholds=[0.3, 0.7]))
    assert found.predicted.tolist() == [[True, False], [True, False]]
    assert found.correct_N.tolist() == [True, False]
    # The second label of the first image is left out at 0.6, so with 0.4; and said first is x, with 0.4.
    assert found.confidence_N == pytest.approx([0.4, 0.8])
    assert task.names(found.predicted) == ["x", "x"]
