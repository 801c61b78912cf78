"""Evaluations as files."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scored_predictions import leaning

from components.evaluation.evaluation_files import write_scores
from components.evaluation.metrics import MATRIX_CLASSES, score
from components.evaluation.predictions import Predictions
from components.records.scores import ScoresRecord
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel


def test_the_confusion_of_very_many_classes_is_kept_whole(tmp_path: Path) -> None:
    scored = leaning(2 * (MATRIX_CLASSES + 1), MATRIX_CLASSES + 1, lean=3)
    scores = score(scored, top_k=3)
    write_scores(tmp_path, scores, [])
    record = ScoresRecord.read(tmp_path / "scores.json")
    assert record.confusion is None
    assert len(record.confused) == 100
    cells = pq.read_table(tmp_path / "confusion.parquet").to_pylist()
    place = {label: number for number, label in enumerate(scored.classes)}
    found = np.zeros((len(place), len(place)), int)
    for cell in cells:
        found[place[cell["label"]], place[cell["predicted"]]] = cell["images"]
    assert np.array_equal(found, scores.confusion)
    assert 0 < len(cells) <= len(scored.target)


def test_every_level_has_its_confusion_and_every_label_of_a_set_its_own(tmp_path: Path) -> None:
    tree = Hierarchy.of([("plant", "tree"), ("plant", "moss"), ("beast", "cat")], ["kingdom", "kind"])
    names = [f"{number}" for number in range(30)]
    of_tree = Predictions(names, names, np.arange(30) % 3, np.zeros((30, tree.num_logits), np.float32), tree)
    write_scores(tmp_path, score(of_tree, top_k=2), [])
    rows = pq.read_table(tmp_path / "confusion.parquet").to_pylist()
    assert {(row["level"], row["label"]) for row in rows} >= {
        ("kingdom", "plant"),
        ("kingdom", "beast"),
        ("", "beast/cat"),
    }
    assert sum(row["images"] for row in rows) == 2 * 30

    (tmp_path / "sets").mkdir()
    sets = MultiLabel.of([["a"], ["b"]])
    target = np.arange(60).reshape(30, 2) % 3 == 0
    write_scores(
        tmp_path / "sets", score(Predictions(names, names, target, np.ones((30, 2), np.float32), sets), top_k=2), []
    )
    assert not (tmp_path / "sets" / "confusion.parquet").exists()
    for row in pq.read_table(tmp_path / "sets" / "classes.parquet").to_pylist():
        assert (row["true_positives"], row["false_positives"], row["false_negatives"]) == (10, 20, 0)
        assert row["images"] == row["true_positives"] + row["false_negatives"] == 30 - row["false_positives"]
