"""The decision rule: thresholds of multi-label classes against an exhaustive search, temperature, the OOD threshold."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scored_predictions import leaning
from sklearn.metrics import f1_score

from components.evaluation.decision_rule import fit_decision_rule, shortcomings
from components.evaluation.metrics import score
from components.evaluation.predictions import Predictions
from components.evaluation.settings import PredictSettings
from components.task.hierarchy import Hierarchy
from components.task.multi_label import LEAST_POSITIVES, MultiLabel, best_threshold
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule


def probabilities_and_truth(
    seed: int, *, positives: int = 30, shift: float = 0.0
) -> tuple[NDArray[np.float32], NDArray]:
    random = np.random.default_rng(seed)
    has_N = np.arange(200) < positives
    logit_N = random.normal(1.5 * has_N + shift, 1)
    return (1 / (1 + np.exp(-logit_N))).astype(np.float32).round(2), has_N


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shift", [-3.0, -1.0, 0.0, 2.0])
def test_no_other_threshold_has_a_higher_f1(seed: int, shift: float) -> None:
    probability_N, has_N = probabilities_and_truth(seed, shift=shift)
    found = f1_score(has_N, probability_N >= best_threshold(probability_N, has_N))
    assert found == pytest.approx(max(f1_score(has_N, probability_N >= one) for one in np.unique(probability_N)))


def test_of_equally_good_thresholds_the_nearest_to_a_half_is_taken() -> None:
    has_N = np.arange(100) < 50
    apart_N = np.where(has_N, 0.9, 0.1).astype(np.float32)
    assert best_threshold(apart_N, has_N) == 0.5
    low_N = np.where(has_N, 0.3, 0.1).astype(np.float32)
    assert best_threshold(low_N, has_N) == pytest.approx(0.2)


def test_a_label_of_few_images_keeps_a_half() -> None:
    probability_N, has_N = probabilities_and_truth(0, positives=LEAST_POSITIVES, shift=-3)
    assert best_threshold(probability_N, has_N) != 0.5
    probability_N, has_N = probabilities_and_truth(0, positives=LEAST_POSITIVES - 1, shift=-3)
    assert best_threshold(probability_N, has_N) == 0.5


def test_a_model_that_says_the_same_of_all_images_still_has_a_threshold() -> None:
    has_N = np.arange(100) < 60
    assert 0 < best_threshold(np.full(100, 0.3, np.float32), has_N) <= 0.3


def test_probabilities_of_zero_tell_nothing() -> None:
    assert best_threshold(np.zeros(50, np.float32), np.arange(50) < 20) == 0.5


def test_fitted_answers_find_labels_that_a_half_misses() -> None:
    task = MultiLabel.of([["a"], ["b"]])
    target = np.stack([np.arange(100) < 40, np.arange(100) % 2 == 0], axis=1)
    logits_NT = np.where(target, -1.0, -4.0).astype(np.float32)
    found = Predictions([""] * 100, [""] * 100, target, logits_NT, task)
    assert not found.correct_N.all()
    rule = fit_decision_rule(found)
    assert Predictions([""] * 100, [""] * 100, target, logits_NT, task, rule).correct_N.all()


def test_single_labels_and_hierarchies_need_no_thresholds() -> None:
    tree = Hierarchy.of([("a", "b"), ("a", "c")], ["x", "y"])
    found = Predictions([""], [""], np.array([0]), np.zeros((1, 3), np.float32), tree)
    assert fit_decision_rule(found).thresholds is None


def test_the_rule_has_the_temperature_and_the_score_that_most_of_validation_stays_below() -> None:
    random = np.random.default_rng(1)
    target_N = random.integers(0, 3, 400)
    logits_NK = (12 * np.eye(3)[np.where(random.random(400) < 0.8, target_N, (target_N + 1) % 3)]).astype(np.float32)
    logits_NK += random.normal(size=(400, 3)).astype(np.float32)
    names = [""] * 400
    scored = Predictions(names, names, target_N, logits_NK, SingleLabel(classes=list("abc")))
    rule = fit_decision_rule(scored)
    assert rule.temperature > 3
    assert rule.ood_threshold is not None
    # Of 401, the 400 and a further one, 95% make 380.95.
    assert (scored.task.ood_score(logits_NK) <= rule.ood_threshold).sum() == 381
    before, after = (score(replace(scored, rule=one), top_k=2).values for one in (DecisionRule(), rule))
    assert after["log_loss"] < before["log_loss"]
    assert after["expected_calibration_error"] < before["expected_calibration_error"]
    assert after["accuracy"] == before["accuracy"]


def test_what_too_few_validation_images_can_not_show_is_said_with_the_number_that_can() -> None:
    predictions = leaning(18, 2, lean=2.0)
    rule = fit_decision_rule(predictions)
    assert (rule.set_thresholds, rule.ood_threshold) == ([[0.0, 0.0]], None)
    of_sets, of_ood = shortcomings(rule, 18)
    assert "18 validation images can't show a coverage of 0.95, for which 19 are needed" in of_sets
    assert of_ood.startswith("no image is flagged as out-of-distribution: 18 validation images can't show which score")
    assert shortcomings(fit_decision_rule(predictions, PredictSettings(coverage=None, ood_keep=None)), 18) == []
    assert shortcomings(fit_decision_rule(leaning(19, 2, lean=2.0)), 19) == []
