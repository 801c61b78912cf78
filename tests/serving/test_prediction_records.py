"""Prediction records: consistent along a hierarchy, independent for each of many labels, with top_k classes."""

import re

import numpy as np
import pytest

from components.data.images.preprocessing import PreprocessSettings
from components.serving.answer_text import promise, warning
from components.serving.onnx_classifier import ModelCard
from components.serving.prediction_records import PredictionOptions, prediction_columns, prediction_records
from components.shared.errors import SettingsError
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule, Task

PREPROCESS = PreprocessSettings(image_size_px=16, resize="crop", max_megapixels=1)
ANIMALS = SingleLabel.of([["cat"], ["dog"], ["eel"]])
TAGS = MultiLabel.of([["indoor", "night"], ["people"]])
FOOD = Hierarchy.of([("fruit", "apple"), ("fruit", "pear"), ("milk", "oat")], ["coarse", "fine"])


def card(task: Task, rule: DecisionRule | None = None) -> ModelCard:
    return ModelCard("plain", task, PREPROCESS, "fp32", "d", "r", rule or DecisionRule())


def test_a_class_its_runners_up_and_every_probability() -> None:
    logits_BT = np.log(np.array([[0.2, 0.7, 0.1], [0.5, 0.2, 0.3]], np.float32))
    first, second = prediction_records(logits_BT, card(ANIMALS), PredictionOptions(top_k=2, probabilities=True))
    assert first == pytest.approx(
        {
            "label": "dog",
            "probability": 0.7,
            "top_1": "dog",
            "top_1_probability": 0.7,
            "top_2": "cat",
            "top_2_probability": 0.2,
            "ood_score": 0.0,
            "probability:cat": 0.2,
            "probability:dog": 0.7,
            "probability:eel": 0.1,
        },
        abs=2e-6,
    )
    assert (second["label"], second["top_2"]) == ("cat", "eel")


def test_a_temperature_softens_the_probability_and_keeps_the_label() -> None:
    logits_BT = np.array([[3.0, 0.0, 0.0]], np.float32)
    (sharp,) = prediction_records(logits_BT, card(ANIMALS), PredictionOptions())
    (soft,) = prediction_records(logits_BT, card(ANIMALS, DecisionRule(temperature=3.0)), PredictionOptions())
    assert (sharp["label"], soft["label"]) == ("cat", "cat")
    assert soft["probability"] == pytest.approx(np.e / (np.e + 2), abs=1e-6)
    assert sharp["ood_score"] == soft["ood_score"] == pytest.approx(ANIMALS.ood_score(logits_BT)[0], abs=1e-6)


def test_many_labels_follow_their_thresholds_and_may_be_none() -> None:
    logits_BT = np.array([[2.0, 2.0, -2.0], [-3.0, -3.0, -3.0]], np.float32)
    both, none = prediction_records(logits_BT, card(TAGS), PredictionOptions())
    assert (both["label"], none["label"]) == ("indoor|night", "")
    strict = DecisionRule(thresholds=[0.95, 0.5, 0.5])
    assert prediction_records(logits_BT, card(TAGS, strict), PredictionOptions())[0]["label"] == "night"


def test_a_hierarchy_has_a_probability_on_each_level() -> None:
    assert FOOD.classes == ["fruit/apple", "fruit/pear", "milk/oat"]
    # Coarse: fruit or milk; fine: apple, pear or oat.
    logits_BT = np.log(np.array([[0.9, 0.1, 0.4, 0.3, 0.3]], np.float32))
    (record,) = prediction_records(logits_BT, card(FOOD), PredictionOptions(probabilities=True))
    assert record["label"] == "fruit/apple"
    assert record["level_coarse"] == "fruit"
    # The leaves' joint probabilities are 0.36, 0.27 and 0.03 before normalization.
    assert record["probability"] == pytest.approx(0.36 / 0.66, abs=1e-5)
    assert record["level_coarse_probability"] == pytest.approx(0.63 / 0.66, abs=1e-5)
    assert record["level_coarse_probability"] == pytest.approx(
        record["probability:fruit/apple"] + record["probability:fruit/pear"], abs=1e-5
    )


def test_an_out_of_distribution_image_is_flagged_if_the_model_has_a_threshold() -> None:
    logits_BT = np.array([[9.0, 0.0, 0.0], [0.1, 0.0, 0.0]], np.float32)
    known, unknown = prediction_records(logits_BT, card(ANIMALS, DecisionRule(ood_threshold=-5.0)), PredictionOptions())
    assert (known["ood"], unknown["ood"]) == (False, True)
    assert known["ood_score"] < -5.0 < unknown["ood_score"]
    assert "ood" not in prediction_records(logits_BT, card(ANIMALS), PredictionOptions())[0]


@pytest.mark.parametrize("rule", [None, DecisionRule(ood_threshold=0.0)])
@pytest.mark.parametrize("task", [ANIMALS, TAGS, FOOD])
def test_the_columns_are_those_of_the_records(task: Task, rule: DecisionRule | None) -> None:
    logits_BT = np.random.default_rng(0).normal(size=(4, task.num_logits)).astype(np.float32)
    options = PredictionOptions(top_k=3, probabilities=True)
    columns = prediction_columns(card(task, rule), options)
    for record in prediction_records(logits_BT, card(task, rule), options):
        assert {name: type(value) for name, value in record.items()} == columns
        assert record["top_1_probability"] >= record["top_2_probability"] >= record["top_3_probability"]


@pytest.mark.parametrize("top_k", [-1, 4])
def test_more_classes_than_the_model_has_can_not_be_requested(top_k: int) -> None:
    with pytest.raises(SettingsError, match=f"top_k is {top_k}, should be between 0 and 3"):
        PredictionOptions(top_k=top_k).check(card(ANIMALS))


def of_sets(thresholds: list[list[float]], ood_threshold: float | None = None) -> DecisionRule:
    return DecisionRule(coverage=0.9, set_thresholds=thresholds, ood_threshold=ood_threshold, ood_keep=0.95)


UNLIKE = "unlike the photos it learned from"
EVEN = [[0.25] * 3]
LABELS = [[0.25, 0.25]] * 3
MANY = SingleLabel.of([[name] for name in "abcdef"])


@pytest.mark.parametrize(
    ("task", "probabilities", "rule", "answer", "sure_of", "prediction_set"),
    [
        (ANIMALS, [0.2, 0.7, 0.1], of_sets(EVEN), "dog", "dog", "dog"),
        (ANIMALS, [0.3, 0.5, 0.2], of_sets(EVEN), "not sure: dog or cat", "", "dog|cat"),
        (ANIMALS, [0.3, 0.4, 0.3], of_sets(EVEN), "not sure: any of the 3 classes", "", "dog|cat|eel"),
        (ANIMALS, [0.3, 0.4, 0.3], of_sets([[0.9] * 3]), "not sure, perhaps dog", "", ""),
        (ANIMALS, [0.3, 0.5, 0.2], of_sets([[0.4, 0.2, 0.1]]), "not sure: dog or eel", "", "dog|eel"),
        (ANIMALS, [0.2, 0.7, 0.1], of_sets(EVEN, -9.0), UNLIKE + ", perhaps dog", "", "dog"),
        (MANY, [0.3, 0.2, 0.2, 0.15, 0.1, 0.05], of_sets([[0.12] * 6]), "not sure: a, b, c or 1 more", "", "a|b|c|d"),
        (FOOD, [0.9, 0.1, 0.8, 0.1, 0.1], of_sets([[0.2] * 3]), "fruit/apple", "fruit/apple", "fruit/apple"),
        (
            FOOD,
            [0.9, 0.1, 0.45, 0.45, 0.1],
            of_sets([[0.2] * 3]),
            "fruit, not sure: fruit/apple or fruit/pear",
            "fruit",
            "fruit/apple|fruit/pear",
        ),
        (
            FOOD,
            [0.5, 0.5, 0.5, 0.0001, 0.5],
            of_sets([[0.2] * 3]),
            "not sure: fruit/apple or milk/oat",
            "",
            "fruit/apple|milk/oat",
        ),
        (TAGS, [0.9, 0.1, 0.9], of_sets(LABELS), "indoor, people", "indoor|people", "indoor|people"),
        (TAGS, [0.1, 0.1, 0.1], of_sets(LABELS), "none of the labels", "", ""),
        (
            TAGS,
            [0.9, 0.4, 0.6],
            of_sets(LABELS),
            "indoor; not sure about people and night",
            "indoor",
            "indoor|people|night",
        ),
        # Where neither yes nor no is probable enough, the label stays open.
        (TAGS, [0.99, 0.5, 0.01], of_sets([[0.9, 0.9]] * 3), "indoor; not sure about night", "indoor", "indoor|night"),
        (TAGS, [0.1, 0.1, 0.1], of_sets(LABELS, -99.0), UNLIKE, "", ""),
        (TAGS, [0.9, 0.9, 0.1], of_sets(LABELS, -99.0), UNLIKE + ", perhaps indoor and night", "", "indoor|night"),
    ],
)
def test_an_answer_says_what_it_is_sure_of_and_what_is_left_open(
    task: Task,
    probabilities: list[float],
    rule: DecisionRule,
    answer: str,
    sure_of: str,
    prediction_set: str,
) -> None:
    probability_1T = np.array([probabilities], np.float32)
    logits_1T = np.log(probability_1T / (1 if task.exclusive else 1 - probability_1T))
    (record,) = prediction_records(logits_1T, card(task, rule), PredictionOptions())
    found = {name: record[name] for name in ("answer", "sure", "sure_of", "prediction_set")}
    assert found == {
        "answer": answer,
        "sure": not re.search("not sure|unlike", answer),
        "sure_of": sure_of,
        "prediction_set": prediction_set,
    }


@pytest.mark.parametrize("task", [ANIMALS, TAGS, FOOD])
def test_the_columns_of_prediction_sets_are_there_where_the_rule_makes_them(task: Task) -> None:
    options, logits_BT = PredictionOptions(top_k=1), np.zeros((2, task.num_logits), np.float32)
    thresholds = LABELS if task is TAGS else EVEN
    before = prediction_columns(card(task), options)
    columns = prediction_columns(card(task, of_sets(thresholds, 0.0)), options)
    added = ["out_of_distribution", "ood", "answer", "sure", "sure_of", "prediction_set"]
    assert [name for name in columns if name not in before] == added
    for record in prediction_records(logits_BT, card(task, of_sets(thresholds, 0.0)), options):
        assert {name: type(value) for name, value in record.items()} == columns
        assert record["ood"] == record["out_of_distribution"]


def test_the_words_of_the_page_name_the_coverage_and_the_threshold() -> None:
    both = card(ANIMALS, of_sets(EVEN, -5.126))
    assert promise(both) == (
        "For photos like those it learned from, the right class is among those that it names 90% of the time."
    )
    assert "a label is decided rightly or left open 90% of the time" in str(promise(card(TAGS, of_sets(LABELS))))
    assert warning(both) == (
        "This image is unlike the photos it learned from, and probably shows none of its classes: 95% of photos like "
        "those have an OOD score below -5.13."
    )
    assert promise(card(ANIMALS)) is warning(card(ANIMALS)) is None
