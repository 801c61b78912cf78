"""Prediction sets: the truth is in them as often as asked, whatever the model; too few images are never claimed for."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import betabinom, binomtest

from components.evaluation.decision_rule import fit_decision_rule, shortcomings
from components.evaluation.metrics import score
from components.evaluation.prediction_sets import (
    SetScores,
    fit_set_thresholds,
    least_images,
    option_thresholds,
    rank_above,
    set_scores,
)
from components.evaluation.predictions import Predictions, predictions_at
from components.evaluation.settings import PredictSettings
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule, Task

ABC = SingleLabel(classes=list("abc"))
TAGS = MultiLabel(classes=list("abc"))
TREE = Hierarchy.of([("x", "a"), ("x", "b"), ("y", "c")], ["coarse", "fine"])


def drawn(task: Task, count: int, *, seed: int, weights: tuple[float, ...] = (0.6, 0.3, 0.1)) -> Predictions:
    """Images of which a model knows something, and is too confident."""
    random = np.random.default_rng(seed)
    logits_NT = 3 * random.normal(size=(count, task.num_logits))
    target: NDArray = random.random((count, 3)) < 0.3 if not task.exclusive else random.choice(3, count, p=weights)
    if task.exclusive:
        logits_NT[np.arange(count), target + task.num_logits - 3] += 4
    else:
        logits_NT += 4 * target - 2
    names = [f"{number}" for number in range(count)]
    return Predictions(names, names, target, logits_NT.astype(np.float32), task)


def fitted(found: Predictions, images: int, coverage: float = 0.9) -> Predictions:
    """All but the first images, by the rule that those give."""
    rule = fit_decision_rule(predictions_at(found, range(images)), PredictSettings(coverage=coverage, ood_keep=None))
    return replace(predictions_at(found, range(images, len(found.path_N))), rule=rule)


def sets(found: Predictions) -> SetScores:
    scores = set_scores(found)
    assert scores is not None
    return scores


@pytest.mark.parametrize("coverage", [0.9, 0.95])
@pytest.mark.parametrize("images", [25, 60])
def test_the_coverage_over_many_draws_is_that_of_the_theory(images: int, coverage: float) -> None:
    """With one threshold for all, the covered images of a draw follow a beta-binomial law (Vovk 2012)."""
    covered, tested, draws = 0, 50, 150
    for seed in range(draws):
        found = fitted(drawn(ABC, images + tested, seed=seed), images, coverage)
        covered += round(sets(found).values["coverage"] * tested)
    rank = rank_above(images, coverage)
    law = betabinom(tested, rank, images + 1 - rank)
    assert abs(covered - draws * law.mean()) < 3 * law.std() * np.sqrt(draws)
    assert law.mean() >= coverage * tested - 1e-9


def test_each_class_of_many_images_is_covered_as_often_as_asked() -> None:
    """One threshold for all would cover the rare class, of which the model is less sure, far less often."""
    found = drawn(ABC, 60_000, seed=1)
    found.logits_NT[found.target == 2, 2] -= 3
    of_all = fitted(found, 20_000)
    for chosen in range(3):
        rows = np.flatnonzero(of_all.target == chosen)
        coverage = sets(predictions_at(of_all, rows)).values["coverage"]
        assert coverage == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize("task", [ABC, TAGS, TREE])
def test_every_label_type_covers_what_is_asked_and_a_larger_coverage_answers_less(task: Task) -> None:
    found = fitted(drawn(task, 6_000, seed=2), 3_000)
    of_sets = sets(found)
    assert of_sets.values["coverage"] == pytest.approx(0.9, abs=0.02)
    assert 0.3 < of_sets.values["answered"] < 0.95
    # So often it is sure and wrong: at most as often as a set lacks the truth.
    assert of_sets.values["answered"] * (1 - of_sets.values["answered_accuracy"]) < 0.11
    assert 0 < sets(fitted(drawn(task, 6_000, seed=2), 3_000, 0.99)).values["answered"] < of_sets.values["answered"]


@pytest.mark.parametrize("task", [ABC, TAGS])
def test_the_interval_is_wilsons_and_the_labels_of_one_image_count_as_one(task: Task) -> None:
    of_sets = sets(fitted(drawn(task, 400, seed=3), 300))
    covered = round(100 * of_sets.values["coverage"])
    expected = binomtest(covered, 100).proportion_ci(method="wilson")
    assert of_sets.intervals["coverage"] == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("images", "open_sets"), [(9, False), (8, True), (1, True)])
def test_too_few_images_leave_every_set_open_and_that_is_said(images: int, open_sets: bool) -> None:
    assert least_images(0.9) == 9
    found = fitted(drawn(ABC, images + 200, seed=4), images)
    assert bool(found.in_set_NDC.all()) is open_sets
    assert (shortcomings(found.rule, images) != []) is open_sets
    of_sets = sets(found)
    if open_sets:
        assert of_sets.values["coverage"] == 1
        assert of_sets.values["answered"] == 0
        assert np.isnan(of_sets.values["answered_accuracy"])
        assert "answered_accuracy" not in of_sets.intervals
        assert shortcomings(found.rule, images)[0].endswith(
            "can't show a coverage of 0.9, for which 9 are needed; give more images, or lower predict.coverage"
        )


@pytest.mark.parametrize(("fraction", "least"), [(0.9, 9), (0.95, 19), (0.99, 99), (0.8, 4), (0.999, 999)])
def test_the_least_number_of_images_allows_for_a_bound_and_one_less_does_not(fraction: float, least: int) -> None:
    assert least_images(fraction) == least
    assert rank_above(least, fraction) == least
    assert rank_above(least - 1, fraction) > least - 1


def test_ties_count_as_in_the_set() -> None:
    flat_NC = np.full((40, 2), 0.5, np.float32)
    (low, high) = option_thresholds(flat_NC, np.arange(40) % 2, coverage=0.9)
    assert low == high == 0.5
    rule = DecisionRule(coverage=0.9, set_thresholds=[[low, high]])
    assert SingleLabel(classes=["a", "b"]).prediction_sets(flat_NC, rule).all()


def test_a_class_without_validation_images_shares_the_threshold_of_the_rare_ones() -> None:
    random = np.random.default_rng(5)
    target_N = np.repeat([0, 1], [900, 60])
    probability_NC = random.dirichlet([1, 1, 1], len(target_N)).astype(np.float32)
    many, rare, missing = option_thresholds(probability_NC, target_N, coverage=0.9)
    assert rare == missing == np.sort(probability_NC[900:, 1])[60 - rank_above(60, 0.9)]
    assert many == np.sort(probability_NC[:900, 0])[900 - rank_above(900, 0.9)]
    # Where the rare ones are too few together, the next one joins them.
    of_few = option_thresholds(probability_NC[870:920], target_N[870:920], coverage=0.9)
    truth_N = probability_NC[np.arange(870, 920), target_N[870:920]]
    assert of_few == [np.sort(truth_N)[50 - rank_above(50, 0.9)]] * 3


def test_the_sets_of_many_labels_follow_each_label_alone() -> None:
    found = drawn(TAGS, 1_000, seed=6)
    probability_NK = found.probabilities_NK
    thresholds = fit_set_thresholds(probability_NK, found.target, TAGS, coverage=0.9)
    assert np.shape(thresholds) == (3, 2)
    both_N2 = np.stack([1 - probability_NK[:, 1], probability_NK[:, 1]], axis=1)
    assert thresholds[1] == option_thresholds(both_N2, found.target[:, 1].astype(np.int64), coverage=0.9)


def test_the_scores_have_the_sets_on_every_level() -> None:
    found = fitted(drawn(TREE, 2_000, seed=7), 1_000)
    headline = score(found, top_k=2).headline()
    assert headline["coarse.coverage"] >= headline["coverage"]
    assert headline["coarse.answered"] > headline["answered"]
    assert set(score(found, top_k=2).headline_intervals()) == {
        f"{level}{name}" for level in ("", "coarse.") for name in ("coverage", "answered", "answered_accuracy")
    }
    without = replace(found, rule=DecisionRule())
    assert "coverage" not in score(without, top_k=2).headline()


def test_what_is_flagged_as_out_of_distribution_is_no_answer() -> None:
    found = fitted(drawn(ABC, 400, seed=8), 300)
    nothing = replace(found, rule=found.rule.model_copy(update={"ood_threshold": -1e9}))
    of_sets = sets(nothing)
    assert of_sets.values["answered"] == 0
    assert of_sets.values["coverage"] == sets(found).values["coverage"]
