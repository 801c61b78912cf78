"""Scores against small cases worked out by hand."""

import math

import numpy as np
import pytest

from components.evaluation.metrics import Scores, score
from components.evaluation.predictions import Predictions
from components.evaluation.served import accuracy_and_macro_f1
from components.labels import LabelSpace


def predictions(target: list[int], logits: list[list[float]], classes: str = "abc") -> Predictions:
    return Predictions(
        path_N=[f"{number}.png" for number in range(len(target))],
        sha256_N=["0" * 64] * len(target),
        target=np.array(target, np.int64),
        logits_NT=np.array(logits, np.float32),
        space=LabelSpace.of("single", classes),
    )


A, B, C = [3.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 3.0]


@pytest.fixture(scope="module")
def scores() -> Scores:
    """a: three of four right, one taken for b; b: one of two right, one taken for a; c: both right."""
    return score(predictions([0, 0, 0, 0, 1, 1, 2, 2], [A, A, A, B, B, A, C, C]), top_k=2)


def test_accuracy_is_the_share_of_right_labels(scores: Scores) -> None:
    assert scores.accuracy == 6 / 8
    assert scores.images == 8


def test_precision_recall_and_f1_of_each_class(scores: Scores) -> None:
    a, b, c = scores.classes
    assert (a.precision, a.recall, a.f1, a.images) == pytest.approx((3 / 4, 3 / 4, 3 / 4, 4))
    assert (b.precision, b.recall, b.f1, b.images) == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert (c.precision, c.recall, c.f1, c.images) == pytest.approx((1, 1, 1, 2))


def test_macro_scores_weigh_each_class_alike(scores: Scores) -> None:
    assert scores.macro_f1 == pytest.approx((0.75 + 0.5 + 1) / 3)
    assert scores.macro_precision == pytest.approx(0.75)
    assert scores.macro_recall == pytest.approx(0.75)


def test_the_confusion_has_true_classes_as_rows(scores: Scores) -> None:
    assert scores.confusion == [[3, 1, 0], [1, 1, 0], [0, 0, 2]]


def test_a_hit_among_the_top_k(scores: Scores) -> None:
    # The a taken for b ranks c second: a miss. The b taken for a ranks b second: a hit.
    assert scores.top_k_accuracy == 7 / 8
    assert score(predictions([0], [B]), top_k=3).top_k_accuracy == 1


def test_log_loss_is_the_mean_negative_log_probability(scores: Scores) -> None:
    total = sum(math.exp(value) for value in A)
    right, second, third = (-math.log(math.exp(value) / total) for value in (3.0, 1.0, 0.0))
    assert scores.log_loss == pytest.approx((6 * right + third + second) / 8, rel=1e-5)


def test_roc_auc_counts_pairs_in_the_right_order() -> None:
    # For a against b: probabilities of a are 0.9, 0.6 (a) and 0.7, 0.2 (b): three of four pairs stand right.
    logits = [[math.log(p), math.log(1 - p)] for p in (0.9, 0.6, 0.7, 0.2)]
    found = score(predictions([0, 0, 1, 1], logits, "ab"), top_k=2)
    assert [one.roc_auc for one in found.classes] == pytest.approx([0.75, 0.75])
    assert found.macro_roc_auc == pytest.approx(0.75)


def test_a_class_without_images_has_no_share_in_the_macro_scores() -> None:
    found = score(predictions([0, 0, 1, 1], [A, A, B, C]), top_k=2)
    c = found.classes[2]
    assert (c.images, c.precision, c.recall, c.f1) == (0, 0, 0, 0)
    assert math.isnan(c.roc_auc)
    assert found.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert math.isfinite(found.macro_roc_auc)


def test_a_class_that_was_never_predicted_scores_zero() -> None:
    found = score(predictions([0, 1], [A, A]), top_k=2)
    assert (found.classes[1].precision, found.classes[1].f1) == (0, 0)


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
