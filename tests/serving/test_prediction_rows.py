"""What is said of each image: consistent along a tree, alone for each label of a set, as many classes as asked for."""

import numpy as np
import pytest

from components.data.images.preprocessing import PreprocessSettings
from components.serving.onnx_classifier import ModelCard
from components.serving.prediction_rows import AnswerOptions, answer_columns, answers_of
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
    first, second = answers_of(logits_BT, card(ANIMALS), AnswerOptions(top_k=2, probabilities=True))
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


def test_a_temperature_softens_the_answer_and_leaves_the_label() -> None:
    logits_BT = np.array([[3.0, 0.0, 0.0]], np.float32)
    (sharp,) = answers_of(logits_BT, card(ANIMALS), AnswerOptions())
    (soft,) = answers_of(logits_BT, card(ANIMALS, DecisionRule(temperature=3.0)), AnswerOptions())
    assert (sharp["label"], soft["label"]) == ("cat", "cat")
    assert soft["probability"] == pytest.approx(np.e / (np.e + 2), abs=1e-6)
    assert sharp["ood_score"] == soft["ood_score"] == pytest.approx(ANIMALS.ood_score(logits_BT)[0], abs=1e-6)


def test_a_set_follows_its_thresholds_and_may_be_empty() -> None:
    logits_BT = np.array([[2.0, 2.0, -2.0], [-3.0, -3.0, -3.0]], np.float32)
    both, none = answers_of(logits_BT, card(TAGS), AnswerOptions())
    assert (both["label"], none["label"]) == ("indoor|night", "")
    strict = DecisionRule(thresholds=[0.95, 0.5, 0.5])
    assert answers_of(logits_BT, card(TAGS, strict), AnswerOptions())[0]["label"] == "night"


def test_a_path_says_how_sure_each_level_is() -> None:
    assert FOOD.classes == ["fruit/apple", "fruit/pear", "milk/oat"]
    # Coarse: fruit or milk; fine: apple, pear or oat.
    logits_BT = np.log(np.array([[0.9, 0.1, 0.4, 0.3, 0.3]], np.float32))
    (answer,) = answers_of(logits_BT, card(FOOD), AnswerOptions(probabilities=True))
    assert answer["label"] == "fruit/apple"
    assert answer["level_coarse"] == "fruit"
    # Of the leaves' joint shares 0.36, 0.27 and 0.03.
    assert answer["probability"] == pytest.approx(0.36 / 0.66, abs=1e-5)
    assert answer["level_coarse_probability"] == pytest.approx(0.63 / 0.66, abs=1e-5)
    assert answer["level_coarse_probability"] == pytest.approx(
        answer["probability:fruit/apple"] + answer["probability:fruit/pear"], abs=1e-5
    )


def test_what_is_unlike_the_training_data_is_flagged_where_the_model_has_a_limit() -> None:
    logits_BT = np.array([[9.0, 0.0, 0.0], [0.1, 0.0, 0.0]], np.float32)
    known, strange = answers_of(logits_BT, card(ANIMALS, DecisionRule(ood_threshold=-5.0)), AnswerOptions())
    assert (known["ood"], strange["ood"]) == (False, True)
    assert known["ood_score"] < -5.0 < strange["ood_score"]
    assert "ood" not in answers_of(logits_BT, card(ANIMALS), AnswerOptions())[0]


@pytest.mark.parametrize("rule", [None, DecisionRule(ood_threshold=0.0)])
@pytest.mark.parametrize("task", [ANIMALS, TAGS, FOOD])
def test_the_columns_are_those_of_the_answers(task: Task, rule: DecisionRule | None) -> None:
    logits_BT = np.random.default_rng(0).normal(size=(4, task.num_logits)).astype(np.float32)
    options = AnswerOptions(top_k=3, probabilities=True)
    columns = answer_columns(card(task, rule), options)
    for answer in answers_of(logits_BT, card(task, rule), options):
        assert {name: type(value) for name, value in answer.items()} == columns
        assert answer["top_1_probability"] >= answer["top_2_probability"] >= answer["top_3_probability"]


@pytest.mark.parametrize("top_k", [-1, 4])
def test_more_classes_than_there_are_can_not_be_asked_for(top_k: int) -> None:
    with pytest.raises(SettingsError, match=f"top_k is {top_k}, should be between 0 and 3"):
        AnswerOptions(top_k=top_k).check(card(ANIMALS))
