"""The part of the report on where a model fails, from whole records, from none, and on the page."""

import numpy as np
import pytest

from components.reporting.analysis import MAP_HEIGHT, MAP_WIDTH, Placed, analysis_section, interval_text

_SLICE = {
    "column": "brightness",
    "value": "0.1 to 0.2",
    "images": 30,
    "accuracy": 0.5,
    "interval": [0.33, 0.67],
    "macro_f1": 0.4,
    "p_corrected": 0.001,
}
_ANALYSIS = {
    "robustness": [
        {"corruption": "none", "strength": 0, "accuracy": 0.9},
        {"corruption": "blur", "strength": 1, "accuracy": 0.8},
        {"corruption": "blur", "strength": 2, "accuracy": 0.7},
    ],
    "reliability": [
        {"images": 0, "confidence": float("nan"), "accuracy": float("nan")},
        {"images": 9, "confidence": 0.95, "accuracy": 0.9},
    ],
    "unlike": [
        {"name": "noise", "images": 5, "energy_auroc": 0.9, "max_probability_auroc": 0.8, "noticed": 0.7},
    ],
    "suspected_labels": [{"path": "a.png", "label": "cat", "suggested": "dog", "score": 0.99}],
}


def placed(number: int, label: str) -> Placed:
    return Placed(
        f"{number}.png", label, "cat", label == "cat", number / 10, 1 - number / 10, "data:image/jpeg;base64,"
    )


def test_records_of_another_release_leave_everything_out() -> None:
    found = analysis_section({}, None, [])
    assert not any((found.slices, found.charts, found.unlike, found.suspects, found.points))


def test_every_record_has_its_place() -> None:
    found = analysis_section({"slices": [_SLICE], "num_slices": 40}, _ANALYSIS, [placed(0, "cat"), placed(10, "dog")])
    (line,) = found.slices
    assert (line.interval, line.images, found.num_slices) == ("0.3300 to 0.6700", 30, 40)
    robustness, calibration = found.charts
    assert [line.name for line in robustness.lines] == ["blur"]
    assert len(robustness.lines[0].dots) == 3
    assert (robustness.x_label, calibration.x_label) == ("strength", "confidence")
    assert [len(line.dots) for line in calibration.lines] == [1, 2]
    assert found.unlike[0].name == "Noise"
    assert found.suspects[0].suggested == "dog"


def test_points_and_their_pictures_stay_inside_the_map() -> None:
    found = analysis_section({}, None, [placed(number, "cat" if number % 2 else "dog") for number in range(11)])
    places = np.array([(point.x, point.y, point.peek_x + 64, point.peek_y + 64) for point in found.points])
    assert places.min() >= 0
    assert places[:, [0, 2]].max() <= MAP_WIDTH
    assert places[:, [1, 3]].max() <= MAP_HEIGHT
    assert len(dict(found.classes_on_map)) == 2
    assert not analysis_section({}, None, [placed(0, f"{number}") for number in range(40)]).classes_on_map


@pytest.mark.parametrize("interval", [None, [], [0.1], [float("nan"), 0.2], "text"])
def test_what_is_no_interval_is_left_out(interval: object) -> None:
    assert interval_text(interval) == ""
