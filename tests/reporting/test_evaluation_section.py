"""The section of the report on a model's scores, from the records of its evaluation."""

import math
from dataclasses import replace

import pytest
from scored import CLASS, scores_record

from components.records.scores import ConfusedPair, LevelScores
from components.reporting.evaluation_section import evaluation_section
from components.reporting.score_estimates import Estimate, estimate


def test_scores_that_a_task_does_not_have_are_left_out_and_undefined_ones_stay() -> None:
    section = evaluation_section(scores_record(values={"accuracy": 0.5, "macro_roc_auc": float("nan")}))
    scores = {line.name: line.served.value for line in section.scores}
    assert scores["Accuracy"] == 0.5
    assert math.isnan(scores["Macro ROC AUC"] or 0)
    assert "Macro F1" not in scores


def test_scores_of_levels_and_those_of_pytorch_stand_beside_the_served_ones() -> None:
    level = LevelScores({"accuracy": 0.75, "macro_f1": 0.7}, {"accuracy": (0.5, 0.9)}, [])
    served = scores_record(intervals={"accuracy": (0.25, 0.75)}, levels={"kingdom": level})
    torch = scores_record(
        values={"accuracy": 0.6}, levels={"kingdom": LevelScores({"accuracy": 0.8, "macro_f1": 0.8}, {}, [])}
    )
    section = evaluation_section(served, model="the int8 file", torch=torch)
    leaf, kingdom, _ = section.scores
    assert (leaf.served.interval, leaf.torch) == ("0.250 to 0.750", Estimate(0.6))
    assert (kingdom.name, kingdom.served, kingdom.torch) == (
        "Accuracy at kingdom",
        Estimate(0.75, 0.5, 0.9),
        Estimate(0.8),
    )
    assert section.num_errors == 2


def test_scores_of_prediction_sets_stand_on_every_level_that_has_them() -> None:
    level = LevelScores({"accuracy": 0.75, "macro_f1": 0.7, "answered": 0.9}, {}, [])
    section = evaluation_section(scores_record(values={"accuracy": 0.5, "coverage": 0.95}, levels={"kingdom": level}))
    assert [line.name for line in section.scores if "et" in line.name or "ure" in line.name] == [
        "Coverage of the prediction sets",
        "Fraction of sure answers at kingdom",
    ]


def test_each_label_of_multi_label_data_has_a_confusion_of_its_own() -> None:
    cat = replace(CLASS, true_positives=3, false_negatives=1, false_positives=2, true_negatives=4)
    section = evaluation_section(scores_record(task="multi_label", classes=[cat]))
    assert section.multi_label
    assert list(section.classes[0].outcomes) == [3, 1, 2, 4]
    assert not evaluation_section(scores_record()).multi_label


def test_the_confusion_is_a_table_for_few_classes_and_has_the_most_frequent_pairs_beside_it() -> None:
    pairs = [ConfusedPair("cat", "dog", 9 - number, 0.3) for number in range(9)]
    two = [CLASS, replace(CLASS, label="dog")]
    section = evaluation_section(scores_record(confusion=[[7, 3], [1, 9]], classes=two, confused=pairs, images=20))
    assert section.confusion is not None
    assert section.confusion.fraction(0, 1) == pytest.approx(0.3)
    assert list(section.confused) == pairs[:5]
    many = evaluation_section(scores_record(confusion=[[0] * 21] * 21, classes=[CLASS] * 21, confused=pairs))
    assert (many.confusion, list(many.confused)) == (None, pairs)


@pytest.mark.parametrize("edges", [None, (float("nan"), 0.2)])
def test_an_undefined_interval_is_left_out(edges: tuple[float, float] | None) -> None:
    found = estimate(0.5, edges)
    assert (found, found.interval, found.drawable) == (Estimate(0.5), "", False)
