"""The confusion of sets of labels, as a picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from components.evaluation.predictions import Predictions
from components.reporting.figures import draw_label_confusion
from components.task.multi_label import MultiLabel


def drawn(file: Path, logits: list[list[float]]) -> bytes:
    task = MultiLabel.of([["cat"], ["dog"]])
    target = np.array([[True, False], [True, True], [False, False]])
    draw_label_confusion(Predictions([""] * 3, [""] * 3, target, np.array(logits, np.float32), task), file)
    return file.read_bytes()


def test_the_picture_follows_what_was_said_of_each_label(tmp_path: Path) -> None:
    right = drawn(tmp_path / "right.png", [[1, -1], [1, 1], [-1, -1]])
    again = drawn(tmp_path / "again.png", [[2, -2], [2, 2], [-2, -2]])
    missed = drawn(tmp_path / "missed.png", [[-1, -1], [1, 1], [-1, -1]])
    assert right == again
    assert right != missed
    assert Image.open(tmp_path / "right.png").width > 400
