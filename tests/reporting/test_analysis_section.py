"""The section of the report on where a model fails, from the records of its evaluation."""

import numpy as np
from scored import scores_record

from components.records.analysis import (
    AnalysisRecord,
    CorruptedScores,
    MeanAccuracy,
    OodScores,
    ReliabilityBin,
    SuspectedLabel,
)
from components.records.scores import Interval, SliceScores
from components.reporting.analysis_section import MAP_HEIGHT, MAP_WIDTH, MappedImage, analysis_section
from components.reporting.inline_pictures import Picture
from components.reporting.score_estimates import Estimate

_SLICE = SliceScores("brightness", "0.1 to 0.2", 30, 0.5, (0.33, 0.67), 0.4, (0.2, 0.6), 0.001, 0.001)
_SUSPECT = SuspectedLabel("a.png", "cat", "dog", 0.99)


def corrupted(corruption: str, strength: int, accuracy: float, interval: Interval) -> CorruptedScores:
    others = (0.5, None) * 4
    return CorruptedScores(corruption, strength, 20, accuracy, interval, *others)


_NOTHING = AnalysisRecord(
    reliability=[],
    robustness=[],
    robustness_means=[],
    ood=[],
    high_confidence_errors=[],
    low_confidence_correct=[],
    suspected_labels=[],
)
_ANALYSIS = _NOTHING.model_copy(
    update={
        "robustness": [
            corrupted("none", 0, 0.9, (0.8, 1.0)),
            corrupted("blur", 1, 0.8, (0.7, 0.9)),
            corrupted("blur", 2, 0.7, (0.6, 0.8)),
        ],
        "robustness_means": [
            MeanAccuracy("none", 0.9, None),
            MeanAccuracy("blur", 0.75, (0.7, 0.8)),
            MeanAccuracy("corruptions", 0.75, None),
        ],
        "reliability": [
            ReliabilityBin(0, float("nan"), float("nan")),
            ReliabilityBin(4, 0.5, 0.0),
            ReliabilityBin(9, 0.95, 0.9),
        ],
        "ood": [OodScores("noise", 5, 0.9, (0.8, 1.0), 0.8, (0.7, 0.9), 0.7, (0.6, 0.8))],
    }
)


def mapped(number: int, label: str) -> MappedImage:
    return MappedImage(
        f"{number}.png", label, "cat", label == "cat", number / 10, 1 - number / 10, "data:image/jpeg;base64,"
    )


def test_an_analysis_that_the_settings_turn_off_shows_nothing() -> None:
    found = analysis_section(scores_record(), _NOTHING, [])
    assert not any((found.slices, found.robustness, found.reliability, found.ood, found.suspects, found.points))
    assert not found.corruptions


def test_every_record_has_its_section() -> None:
    scores = scores_record(slices=[_SLICE], num_slices=40)
    found = analysis_section(scores, _ANALYSIS, [mapped(0, "cat"), mapped(10, "dog")], suspects=[_SUSPECT])
    (line,) = found.slices
    assert (line.accuracy, line.macro_f1) == (Estimate(0.5, 0.33, 0.67), Estimate(0.4, 0.2, 0.6))
    assert (line.images, found.num_slices) == (30, 40)
    assert found.robustness is not None
    assert [(drawn.name, drawn.note) for drawn in found.robustness.lines] == [("blur", "mean 0.7500")]
    assert len(found.robustness.lines[0].dots) == 3
    clean, blur, all_of_them = found.corruptions
    assert (clean.strengths, blur.mean, found.corrupted_images) == (
        [Estimate(0.9, 0.8, 1.0)],
        Estimate(0.75, 0.7, 0.8),
        20,
    )
    assert blur.strengths == [Estimate(0.8, 0.7, 0.9), Estimate(0.7, 0.6, 0.8)]
    assert (all_of_them.name, all_of_them.mean) == ("all of them", Estimate(0.75))
    assert found.reliability is not None
    assert [len(drawn.dots) for drawn in found.reliability.lines] == [1, 2], "four predictions say nothing"
    assert (found.ood[0].name, found.ood[0].detected) == ("Noise", Estimate(0.7, 0.6, 0.8))
    assert found.suspects[0].suggested == "dog"


def test_points_and_their_pictures_stay_inside_the_map() -> None:
    images = [mapped(number, "cat" if number % 2 else "dog") for number in range(11)]
    found = analysis_section(scores_record(), _NOTHING, images)
    corners = np.array([(point.x, point.y, point.peek_x + 64, point.peek_y + 64) for point in found.points])
    assert corners.min() >= 0
    assert corners[:, [0, 2]].max() <= MAP_WIDTH
    assert corners[:, [1, 3]].max() <= MAP_HEIGHT
    assert len(dict(found.classes_on_map)) == 2
    many = [mapped(0, f"{number}") for number in range(40)]
    assert not analysis_section(scores_record(), _NOTHING, many).classes_on_map


def test_suspects_have_pictures_where_the_raw_data_holds_the_images() -> None:
    picture = Picture("data:,", "a.png")
    others = SuspectedLabel("b.png", "cat", "dog", 0.9)
    found = analysis_section(scores_record(), _NOTHING, [], suspects=[_SUSPECT, others], pictures={"a.png": picture})
    assert [(one.path, one.picture) for one in found.suspects] == [("a.png", picture), ("b.png", None)]
