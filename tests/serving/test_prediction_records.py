"""Prediction records: consistent along a hierarchy, independent for each of many labels, with top_k classes."""

import numpy as np
import pytest

from components.data.images.preprocessing import PreprocessSettings
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
