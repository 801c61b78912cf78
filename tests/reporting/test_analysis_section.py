"""The part of the report on where a model fails, from whole records, from none, and on the page."""

import numpy as np

from components.reporting.analysis_section import MAP_HEIGHT, MAP_WIDTH, Placed, analysis_section
from components.reporting.inline_pictures import Picture
from components.reporting.score_estimates import Estimate

_SLICE = {
    "column": "brightness",
    "value": "0.1 to 0.2",
    "images": 30,
    "accuracy": 0.5,
    "interval": [0.33, 0.67],
    "macro_f1": 0.4,
    "macro_f1_interval": [0.2, 0.6],
    "p_corrected": 0.001,
}
_ANALYSIS = {
    "robustness": [
        {"corruption": "none", "strength": 0, "accuracy": 0.9, "images": 20},
        {"corruption": "blur", "strength": 1, "accuracy": 0.8},
        {"corruption": "blur", "strength": 2, "accuracy": 0.7, "interval": [0.6, 0.8]},
    ],
    "robustness_means": [
        {"corruption": "blur", "accuracy": 0.75, "interval": [0.7, 0.8]},
        {"corruption": "corruptions", "accuracy": 0.75, "interval": None},
    ],
    "reliability": [
        {"images": 0, "confidence": float("nan"), "accuracy": float("nan")},
        {"images": 4, "confidence": 0.5, "accuracy": 0.0},
        {"images": 9, "confidence": 0.95, "accuracy": 0.9},
    ],
    "ood": [
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
    assert not any((found.slices, found.robustness, found.reliability, found.ood, found.suspects, found.points))


def test_every_record_has_its_place() -> None:
    found = analysis_section({"slices": [_SLICE], "num_slices": 40}, _ANALYSIS, [placed(0, "cat"), placed(10, "dog")])
    (line,) = found.slices
    assert (line.accuracy, line.macro_f1) == (Estimate(0.5, 0.33, 0.67), Estimate(0.4, 0.2, 0.6))
    assert (line.images, found.num_slices) == (30, 40)
    assert found.robustness is not None
    assert [(drawn.name, drawn.note) for drawn in found.robustness.lines] == [("blur", "mean 0.7500")]
    assert len(found.robustness.lines[0].dots) == 3
    clean, blur, all_of_them = found.corruptions
    assert (clean.strengths, blur.mean, found.corrupted_images) == ([Estimate(0.9)], Estimate(0.75, 0.7, 0.8), 20)
    assert blur.strengths == [Estimate(0.8), Estimate(0.7, 0.6, 0.8)]
    assert (all_of_them.name, all_of_them.mean) == ("all of them", Estimate(0.75))
    assert found.reliability is not None
    assert [len(drawn.dots) for drawn in found.reliability.lines] == [1, 2], "four answers tell nothing"
    assert found.ood[0].name == "Noise"
    assert found.suspects[0].suggested == "dog"


def test_points_and_their_pictures_stay_inside_the_map() -> None:
    found = analysis_section({}, None, [placed(number, "cat" if number % 2 else "dog") for number in range(11)])
    places = np.array([(point.x, point.y, point.peek_x + 64, point.peek_y + 64) for point in found.points])
    assert places.min() >= 0
    assert places[:, [0, 2]].max() <= MAP_WIDTH
    assert places[:, [1, 3]].max() <= MAP_HEIGHT
    assert len(dict(found.classes_on_map)) == 2
    assert not analysis_section({}, None, [placed(0, f"{number}") for number in range(40)]).classes_on_map


def test_suspects_are_seen_inside_the_torch_model_and_have_pictures_where_they_are_in_reach() -> None:
    picture = Picture("data:,", "a.png")
    found = analysis_section({}, {"ood": []}, [], inside=_ANALYSIS, pictures={"a.png": picture})
    assert (found.suspects[0].path, found.suspects[0].picture, found.robustness) == ("a.png", picture, None)
