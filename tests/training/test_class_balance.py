"""Classes with equal weight in the loss, and sampled equally often."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.shared.errors import SettingsError
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.training.class_balance import class_weights
from components.training.settings import TrainingJob

SINGLE = SingleLabel(classes=["cat", "dog", "fox"])
MULTI = MultiLabel(classes=["red", "blue"])
TARGET = np.array([0, 0, 0, 0, 1, 1, 2, 2])
SETS = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.bool_)


def test_automatic_weights_balance_the_classes_and_leave_the_mean_at_one() -> None:
    weight_K = class_weights("auto", TARGET, SINGLE)
    assert weight_K is not None
    assert weight_K == pytest.approx([8 / 12, 8 / 6, 8 / 6])
    assert weight_K[TARGET].mean() == pytest.approx(1)


def test_automatic_weights_of_sets_are_images_without_over_images_with() -> None:
    assert class_weights("auto", SETS, MULTI) == pytest.approx([1 / 3, 3])


def test_named_weights_leave_the_others_at_one() -> None:
    assert class_weights({"dog": 2.5}, TARGET, SINGLE) == pytest.approx([1, 2.5, 1])
    assert class_weights("none", TARGET, SINGLE) is None


def test_a_class_that_yaml_reads_as_a_number_may_be_weighed(
    make_job: Callable[..., TrainingJob], tmp_path: Path
) -> None:
    job = make_job(tmp_path, train={"class_weights": {3: 2.0, "dog": 1}})
    assert job.train.class_weights == {"3": 2.0, "dog": 1.0}


@pytest.mark.filterwarnings("error")
def test_a_whole_number_is_a_weight_like_any_other(make_job: Callable[..., TrainingJob], tmp_path: Path) -> None:
    """pydantic warns of a number that isn't of the declared type."""
    job = make_job(tmp_path, train={"class_weights": {"cat": 2}})
    assert job.model_dump()["train"]["class_weights"] == {"cat": 2.0}


def test_a_weight_for_an_unknown_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"class_weights: dgo is no class of these images; did you mean dog\?"):
        class_weights({"dgo": 2.0}, TARGET, SINGLE)


def test_weights_that_are_all_zero_are_refused() -> None:
    zeros = dict.fromkeys(SINGLE.classes, 0.0)
    with pytest.raises(
        SettingsError, match="class_weights: all are 0, so nothing is learned; give one a larger weight"
    ):
        class_weights(zeros, TARGET, SINGLE)
    assert class_weights(zeros | {"dog": 0.5}, TARGET, SINGLE) == pytest.approx([0, 0.5, 0])


def test_balanced_sampling_gives_each_class_the_same_chance() -> None:
    weight_N = SINGLE.sampling_weights(TARGET)
    assert [weight_N[number == TARGET].sum() for number in range(3)] == pytest.approx([1 / 3] * 3)


def test_balanced_sampling_of_sets_favours_rare_labels_and_sums_to_one() -> None:
    weight_N = MULTI.sampling_weights(SETS)
    assert weight_N.sum() == pytest.approx(1)
    assert weight_N[2] > weight_N[0]
