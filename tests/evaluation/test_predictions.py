"""What a model says of each image, as a table."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.evaluation.predictions import Predictions, read_predictions, write_predictions
from components.serving.classifier import softmax


def some(count: int = 5, classes: tuple[str, ...] = ("cat", "dog, big", "Ä/ö 🐈")) -> Predictions:
    random = np.random.default_rng(0)
    return Predictions(
        path_N=[f"cat/ä {number}.png" for number in range(count)],
        sha256_N=[f"{number:064x}" for number in range(count)],
        target_N=random.integers(0, len(classes), count),
        logits_NK=random.normal(size=(count, len(classes))).astype(np.float32),
        classes=list(classes),
    )


@pytest.mark.parametrize("count", [1, 5, 300])
def test_predictions_come_back_as_they_were_written(tmp_path: Path, count: int) -> None:
    written = some(count)
    write_predictions(tmp_path / "p.parquet", written)
    read = read_predictions(tmp_path / "p.parquet")
    assert (read.path_N, read.sha256_N, read.classes) == (written.path_N, written.sha256_N, written.classes)
    assert np.array_equal(read.target_N, written.target_N)
    assert np.array_equal(read.logits_NK, written.logits_NK)
    assert read.logits_NK.dtype == np.float32


def test_the_table_can_be_read_without_this_code(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.parquet", some())
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["label"].to_pylist() == [some().classes[index] for index in some().target_N]
    assert table["predicted"].to_pylist() == [some().classes[index] for index in some().logits_NK.argmax(axis=1)]


def test_equal_predictions_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_predictions(tmp_path / name, some())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_probabilities_are_a_softmax_that_does_not_overflow() -> None:
    shares = softmax(np.array([[1000.0, 1000.0, -1000.0], [0.0, np.log(3), -np.inf]], np.float32))
    assert shares == pytest.approx(np.array([[0.5, 0.5, 0], [0.25, 0.75, 0]]))


def test_correct_and_predicted_follow_the_largest_logit() -> None:
    found = Predictions(["a", "b"], ["", ""], np.array([1, 1]), np.array([[0, 2], [3, 1]], np.float32), ["x", "y"])
    assert found.predicted_N.tolist() == [1, 0]
    assert found.correct_N.tolist() == [True, False]
