"""Non-dominated candidates, and the picture of them."""

from pathlib import Path

import numpy as np

from components.evaluation.pareto_front import non_dominated
from components.reporting.figures import Tradeoff, draw_tradeoffs


def test_only_what_another_one_beats_or_equals_in_everything_is_dominated() -> None:
    costs_CM = np.array([[1.0, 5.0], [5.0, 1.0], [3.0, 3.0], [3.0, 4.0], [5.0, 5.0], [3.0, 3.0]])
    assert non_dominated(costs_CM).tolist() == [True, True, True, False, False, True]
    assert non_dominated(costs_CM[:1]).tolist() == [True]


def test_the_picture_is_drawn_to_equal_bytes_in_both_formats(tmp_path: Path) -> None:
    models = [
        Tradeoff("plain", 0.98, 0.1, 0.3, 30.0, non_dominated=True),
        Tradeoff("resnet18", 0.97, 1.5, 11.0, 0.0, non_dominated=False),
        Tradeoff("models:/digits/3", 0.96, 1.2, 9.0, None, non_dominated=False),
    ]
    for name, start in (("tradeoffs.png", b"\x89PNG"), ("tradeoffs.svg", b"<?xml")):
        draw_tradeoffs(models, tmp_path / name)
        first = (tmp_path / name).read_bytes()
        draw_tradeoffs(models, tmp_path / name)
        assert first.startswith(start)
        assert (tmp_path / name).read_bytes() == first
