"""Scores against small cases worked out by hand, and against scikit-learn's and torchmetrics' own functions."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from components.evaluation.metrics import Scores, score
from components.evaluation.predictions import Predictions
from components.evaluation.served_predictions import accuracy_and_macro_f1
from components.shared.errors import DataError
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule, Task

A, B, C = [3.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 3.0]
TREE = [("fruit", "apple"), ("fruit", "pear"), ("milk", "cow"), ("milk", "oat")]


def predictions(
    target: object, logits: object, task: Task | str = "abc", rule: DecisionRule | None = None
) -> Predictions:
    truth = np.array(target)
    if isinstance(task, str):
        task = SingleLabel(classes=list(task))
    return Predictions(
        path_N=[f"{number}.png" for number in range(len(truth))],
        sha256_N=["0" * 64] * len(truth),
        target=truth,
        logits_NT=np.array(logits, np.float32),
        task=task,
        rule=rule or DecisionRule(),
    )


def random_singles(count: int = 400, classes: int = 7, rule: DecisionRule | None = None) -> Predictions:
    random = np.random.default_rng(5)
    target_N = random.integers(0, classes, count)
    # Halves make ties, which rank metrics must share out.
    logits_NK = (random.normal(size=(count, classes)) * 2).round() / 2
    logits_NK[np.arange(count), target_N] += 1.5
    return predictions(target_N, logits_NK, "abcdefghijkl"[:classes], rule)


def random_sets(count: int = 400) -> Predictions:
    random = np.random.default_rng(6)
    target_NK = random.random((count, 5)) < [0.5, 0.3, 0.2, 0.1, 0.05]
    logits_NK = (random.normal(size=(count, 5)) * 2 + 2 * target_NK - 1).round(1)
    task = MultiLabel(classes=list("abcde"))
    return predictions(target_NK, logits_NK, task, DecisionRule(thresholds=[0.5, 0.4, 0.3, 0.3, 0.2]))


@pytest.fixture(scope="module")
def scores() -> Scores:
    """a: three of four right, one taken for b; b: one of two right, one taken for a; c: both right."""
    return score(predictions([0, 0, 0, 0, 1, 1, 2, 2], [A, A, A, B, B, A, C, C]), top_k=2)


def test_accuracy_is_the_fraction_of_correct_labels(scores: Scores) -> None:
    assert scores.accuracy == 6 / 8
    assert scores.images == 8


def test_precision_recall_and_f1_of_each_class(scores: Scores) -> None:
    a, b, c = scores.classes
    assert (a.precision, a.recall, a.f1, a.images) == pytest.approx((3 / 4, 3 / 4, 3 / 4, 4))
    assert (b.precision, b.recall, b.f1, b.images) == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert (c.precision, c.recall, c.f1, c.images) == pytest.approx((1, 1, 1, 2))


def test_macro_scores_weigh_each_class_alike(scores: Scores) -> None:
    values = scores.values
    assert scores.macro_f1 == pytest.approx((0.75 + 0.5 + 1) / 3)
    assert values["macro_precision"] == pytest.approx(0.75)
    assert values["macro_recall"] == values["balanced_accuracy"] == pytest.approx(0.75)


def test_the_confusion_has_true_classes_as_rows_and_its_pairs_come_by_frequency(scores: Scores) -> None:
    assert scores.confusion is not None
    assert scores.confusion.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 2]]
    assert [(pair.label, pair.predicted, pair.images, pair.fraction) for pair in scores.confused] == [
        ("b", "a", 1, 0.5),
        ("a", "b", 1, 0.25),
    ]


def test_each_class_is_confused_with_the_rest_of_one_class_and_of_sets() -> None:
    sets = random_sets()
    for scored in (random_singles(), sets):
        one_hot = scored.target if scored is sets else scored.target[:, None] == np.arange(len(scored.classes))
        predicted = scored.predicted if scored is sets else scored.predicted[:, None] == np.arange(len(scored.classes))
        expected = reference.multilabel_confusion_matrix(one_hot, predicted)
        found = [
            [[one.true_negatives, one.false_positives], [one.false_negatives, one.true_positives]]
            for one in score(scored, top_k=3).classes
        ]
        assert np.array_equal(found, expected)
        assert [one.images for one in score(scored, top_k=3).classes] == one_hot.sum(axis=0).tolist()


def test_a_hit_among_the_top_k(scores: Scores) -> None:
    # The a taken for b ranks c second: a miss. The b taken for a ranks b second: a hit.
    assert scores.values["top_k_accuracy"] == 7 / 8
    assert score(predictions([0], [B]), top_k=3).values["top_k_accuracy"] == 1


def test_log_loss_is_the_mean_negative_log_probability(scores: Scores) -> None:
    total = sum(math.exp(value) for value in A)
    right, second, third = (-math.log(math.exp(value) / total) for value in (3.0, 1.0, 0.0))
    assert scores.values["log_loss"] == pytest.approx((6 * right + third + second) / 8, rel=1e-5)


def test_roc_auc_counts_pairs_in_the_right_order() -> None:
    # For a against b: probabilities of a are 0.9, 0.6 (a) and 0.7, 0.2 (b): three of four pairs stand right.
    logits = [[math.log(p), math.log(1 - p)] for p in (0.9, 0.6, 0.7, 0.2)]
    found = score(predictions([0, 0, 1, 1], logits, "ab"), top_k=2)
    assert [one.roc_auc for one in found.classes] == pytest.approx([0.75, 0.75])
    assert found.values["macro_roc_auc"] == pytest.approx(0.75)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_every_score_of_single_labels_is_that_of_scikit_learn(temperature: float) -> None:
    scored = random_singles(rule=DecisionRule(temperature=temperature))
    found, target_N, pred_N = score(scored, top_k=3), scored.target, scored.predicted
    probability_NK = scored.probabilities_NK.astype(np.float64)
    probability_NK /= probability_NK.sum(axis=1, keepdims=True)
    same_NK = target_N[:, None] == np.arange(7)
    expected = {
        "accuracy": reference.accuracy_score(target_N, pred_N),
        "balanced_accuracy": reference.balanced_accuracy_score(target_N, pred_N),
        "log_loss": reference.log_loss(target_N, probability_NK),
        "brier": reference.brier_score_loss(target_N, probability_NK),
        "expected_calibration_error": multiclass_calibration_error(
            torch.tensor(scored.probabilities_NK), torch.tensor(target_N), num_classes=7, n_bins=15
        ).item(),
    }
    for mean in ("macro", "micro", "weighted"):
        three = reference.precision_recall_fscore_support(target_N, pred_N, average=mean, zero_division=0)
        expected |= {f"{mean}_{name}": value for name, value in zip(("precision", "recall", "f1"), three, strict=False)}
    for mean in ("macro", "micro", "weighted"):
        expected[f"{mean}_roc_auc"] = reference.roc_auc_score(
            target_N, scored.probabilities_NK, multi_class="ovr", average=mean
        )
        expected[f"{mean}_average_precision"] = reference.average_precision_score(
            same_NK, scored.probabilities_NK, average=mean
        )
    assert {name: found.values[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    best_NK = np.argsort(-scored.logits_NT, axis=1, kind="stable")[:, :3]
    assert found.values["top_k_accuracy"] == (best_NK == target_N[:, None]).any(axis=1).mean()
    columns = zip(same_NK.T, scored.probabilities_NK.T, strict=True)
    by_class = [reference.roc_auc_score(same, column) for same, column in columns]
    assert [one.roc_auc for one in found.classes] == pytest.approx(by_class)


def test_every_score_of_sets_is_that_of_scikit_learn() -> None:
    scored = random_sets()
    found, target_NK, pred_NK = score(scored, top_k=3), scored.target, scored.predicted
    probability_NK = scored.probabilities_NK.astype(np.float64)
    columns = list(zip(target_NK.T, probability_NK.T, strict=True))
    expected = {
        "subset_accuracy": reference.accuracy_score(target_NK, pred_NK),
        "hamming_loss": reference.hamming_loss(target_NK, pred_NK),
        "log_loss": np.mean([reference.log_loss(*column) for column in columns]),
        "brier": np.mean([reference.brier_score_loss(*column) for column in columns]),
    }
    for mean in ("macro", "micro", "weighted"):
        three = reference.precision_recall_fscore_support(target_NK, pred_NK, average=mean, zero_division=0)
        expected |= {f"{mean}_{name}": value for name, value in zip(("precision", "recall", "f1"), three, strict=False)}
    for mean in ("macro", "micro", "weighted"):
        expected[f"{mean}_roc_auc"] = reference.roc_auc_score(target_NK, scored.logits_NT, average=mean)
        expected[f"{mean}_average_precision"] = reference.average_precision_score(
            target_NK, scored.logits_NT, average=mean
        )
    assert {name: found.values[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert found.accuracy == found.values["subset_accuracy"]
    best_NK = np.argsort(-scored.logits_NT, axis=1, kind="stable")[:, :3]
    hit_N = np.take_along_axis(target_NK, best_NK, axis=1).any(axis=1)
    none_N = ~target_NK.any(axis=1)
    assert none_N.any()
    assert found.values["top_k_accuracy"] == np.where(none_N, ~pred_NK.any(axis=1), hit_N).mean()
    assert found.confusion is None


def test_a_hierarchy_is_scored_at_every_level_and_its_answers_agree_along_the_tree() -> None:
    task = Hierarchy.of(TREE, ["coarse", "fine"])
    random = np.random.default_rng(8)
    target_N = random.integers(0, 4, 200)
    logits_NT = random.normal(size=(200, 6))
    logits_NT[np.arange(200), 2 + target_N] += 1
    scored = predictions(target_N, logits_NT, task)
    found = score(scored, top_k=2, num_resamples=50)
    coarse = found.levels["coarse"]
    assert [one.label for one in coarse.classes] == ["fruit", "milk"]
    assert coarse.accuracy == reference.accuracy_score(target_N // 2, scored.predicted // 2)
    fruit_N = scored.probabilities_NK[:, :2].sum(axis=1)
    assert coarse.values["macro_roc_auc"] == pytest.approx(reference.roc_auc_score(target_N < 2, fruit_N))
    assert coarse.accuracy >= found.accuracy
    assert found.headline() == found.values | {f"coarse.{name}": value for name, value in coarse.values.items()}
    assert set(found.headline_intervals()) == set(found.headline())
    assert coarse.intervals["accuracy"][0] <= coarse.accuracy <= coarse.intervals["accuracy"][1]


def test_every_level_of_a_hierarchy_has_its_error_before_scaling() -> None:
    task = Hierarchy.of(TREE, ["coarse", "fine"])
    random = np.random.default_rng(9)
    target_N, logits_NT = random.integers(0, 4, 200), random.normal(size=(200, 6))
    found = score(predictions(target_N, logits_NT, task, DecisionRule(temperature=2.0)), top_k=2, num_resamples=20)
    plain = score(predictions(target_N, logits_NT, task), top_k=2).headline()
    for level in ("", "coarse."):
        before = found.headline()[f"{level}expected_calibration_error_before_scaling"]
        assert before == pytest.approx(plain[f"{level}expected_calibration_error"])
        assert before != found.headline()[f"{level}expected_calibration_error"]
    assert set(found.headline_intervals()) == set(found.headline())


def test_the_log_loss_of_an_overconfident_model_is_that_of_scikit_learn() -> None:
    found = score(predictions([0, 1, 2], [[0.0, 900.0, 0.0], B, C]), top_k=2, num_resamples=20)
    probability_NK = np.array([[0.0, 1.0, 0.0], *(np.exp(one) / np.exp(one).sum() for one in (B, C))])
    assert found.values["log_loss"] == pytest.approx(reference.log_loss([0, 1, 2], probability_NK), rel=1e-6)
    assert found.intervals["log_loss"][1] <= -math.log(np.finfo(float).eps)


def test_sets_of_a_single_label_are_scored_by_that_label() -> None:
    task = MultiLabel(classes=["a"])
    found = score(
        predictions([[True], [True], [True], [False]], [[1], [-1], [-1], [1]], task), top_k=2, num_resamples=5
    )
    assert (found.classes[0].precision, found.classes[0].recall) == (0.5, 1 / 3)
    assert found.values["macro_recall"] == found.values["micro_recall"] == pytest.approx(1 / 3)
    assert found.values["hamming_loss"] == 3 / 4


def test_sets_without_any_label_leave_unknown_what_nobody_can_know() -> None:
    found = score(predictions(np.zeros((4, 2), bool), -np.ones((4, 2)), MultiLabel(classes=["a", "b"])), top_k=2)
    unknown = {name for name, value in found.values.items() if math.isnan(value)}
    assert unknown >= {"balanced_accuracy", "macro_f1", "weighted_recall", "micro_recall", "macro_roc_auc"}
    assert found.accuracy == 1


def test_the_error_before_scaling_stands_beside_the_one_after() -> None:
    before = score(random_singles(), top_k=2).values
    after = score(random_singles(rule=DecisionRule(temperature=0.5)), top_k=2).values
    assert "expected_calibration_error_before_scaling" not in before
    assert after["expected_calibration_error_before_scaling"] == before["expected_calibration_error"]
    assert after["expected_calibration_error"] != before["expected_calibration_error"]


@pytest.mark.parametrize("scored", [random_singles(150, 4), random_sets(150)], ids=["single", "sets"])
def test_intervals_are_those_of_scores_computed_again_in_each_resample(scored: Predictions) -> None:
    found = score(scored, top_k=2, num_resamples=50, seed=1)
    sets = not scored.task.exclusive
    probability_NK = scored.probabilities_NK.astype(np.float64)
    same_NK = scored.target if sets else scored.target[:, None] == np.arange(4)
    again: dict[str, list[float]] = {}
    for draw in range(50):
        resample = np.random.default_rng([1, draw]).integers(0, 150, 150)
        target, predicted = scored.target[resample], scored.predicted[resample]
        values = {
            "accuracy": reference.accuracy_score(target, predicted),
            "macro_f1": reference.f1_score(target, predicted, average="macro"),
        }
        for function in (reference.roc_auc_score, reference.average_precision_score):
            name, count_K = function.__name__.removesuffix("_score"), same_NK[resample].sum(axis=0)
            value_K = function(same_NK[resample], probability_NK[resample], average=None)
            values[f"macro_{name}"], values[f"weighted_{name}"] = value_K.mean(), value_K @ count_K / count_K.sum()
            values[f"micro_{name}"] = function(same_NK[resample].ravel(), probability_NK[resample].ravel())
        for name, value in values.items():
            again.setdefault(name, []).append(float(value))
    for name, values_D in again.items():
        low, high = np.percentile(values_D, [2.5, 97.5])
        # Rank scores are resample to first order, around the value itself.
        slack = 0.25 * (high - low) if "_f1" not in name and name != "accuracy" else 1e-8
        assert found.intervals[name] == pytest.approx((low, high), abs=slack), name


@pytest.mark.parametrize("scored", [random_singles(), random_sets()], ids=["single", "sets"])
def test_every_headline_score_has_an_interval_around_it_and_the_same_one_again(scored: Predictions) -> None:
    found = score(scored, top_k=2, num_resamples=200)
    assert set(found.intervals) == set(found.headline())
    assert all(low <= found.values[name] <= high for name, (low, high) in found.intervals.items())
    np.testing.assert_equal(asdict(score(scored, top_k=2, num_resamples=200)), asdict(found))
    assert score(scored, top_k=2, num_resamples=200, seed=8).intervals != found.intervals
    assert all(set(one.intervals) >= {"recall", "roc_auc"} for one in found.classes)


def test_a_class_without_images_does_not_count_in_the_macro_scores() -> None:
    found = score(predictions([0, 0, 1, 1], [A, A, B, C]), top_k=2, num_resamples=20)
    c = found.classes[2]
    assert (c.images, c.precision, c.recall, c.f1) == (0, 0, 0, 0)
    assert math.isnan(c.roc_auc)
    assert math.isnan(c.intervals["recall"][0])
    assert found.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert math.isfinite(found.values["macro_roc_auc"])


def test_a_class_that_was_never_predicted_scores_zero() -> None:
    found = score(predictions([0, 1], [A, A]), top_k=2)
    assert (found.classes[1].precision, found.classes[1].f1) == (0, 0)


def test_one_image_and_one_that_is_all_right_have_intervals_of_no_width() -> None:
    for scored in (predictions([0], [A]), predictions([0, 1, 2] * 4, [A, B, C] * 4)):
        found = score(scored, top_k=2, num_resamples=30)
        assert found.accuracy == 1
        assert found.intervals["accuracy"] == (1, 1)
    assert math.isnan(score(predictions([0], [A]), top_k=2).values["macro_roc_auc"])
    assert found.intervals["macro_roc_auc"] == (1, 1)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_no_finite_numbers_are_refused(broken: float) -> None:
    with pytest.raises(DataError, match=r"1 of 2 images .* \(1\.png first\)"):
        score(predictions([0, 1], [A, [broken, 0, 0]]), top_k=2)


def test_no_predictions_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="no predictions to score"):
        score(predictions(np.zeros(0, int), np.zeros((0, 3))), top_k=2)


def test_the_headline_is_plain_numbers(scores: Scores) -> None:
    headline = scores.headline()
    assert headline["accuracy"] == scores.accuracy
    assert {type(value) for value in headline.values()} == {float}


def test_scores_by_class_names_agree_with_those_by_index(scores: Scores) -> None:
    labels, predicted = list("aaaabbcc"), list("aaabbacc")
    assert accuracy_and_macro_f1(labels, predicted) == pytest.approx((scores.accuracy, scores.macro_f1))


def test_a_model_that_knows_other_classes_is_measured_by_those_of_the_images() -> None:
    accuracy, macro_f1 = accuracy_and_macro_f1(["a", "a", "b", "b"], ["a", "zebra", "b", "b"])
    assert accuracy == 0.75
    assert macro_f1 == pytest.approx((2 / 3 + 1) / 2)
