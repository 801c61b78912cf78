"""Reading logits: consistent along the tree, the same for one class as softmax, alone for each label of a set."""

import numpy as np
import pytest

from components.shared.errors import DataError
from components.task.hierarchy import Hierarchy
from components.task.label_text import counted_names
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import Task
from components.task.task_types import task_from_record

TREE = [("fruit", "apple"), ("fruit", "pear"), ("milk", "oat")]


@pytest.fixture
def tree() -> Task:
    return Hierarchy.of(TREE, ["coarse", "fine"])


def test_a_tree_has_a_logit_for_each_class_of_each_level(tree):
    assert tree.classes == ["fruit/apple", "fruit/pear", "milk/oat"]
    assert tree.num_logits == 5
    assert tree.level_slices() == [slice(0, 2), slice(2, 5)]
    assert tree.ancestors_DK().tolist() == [[0, 0, 1], [0, 1, 2]]


def test_leaves_multiply_the_probabilities_on_their_path(tree):
    coarse, fine = np.array([0.9, 0.1]), np.array([0.3, 0.2, 0.5])
    logits_NT = np.log(np.concatenate([coarse, fine]))[None].astype(np.float32)
    path = np.array([0.9 * 0.3, 0.9 * 0.2, 0.1 * 0.5])
    np.testing.assert_allclose(tree.probabilities(logits_NT)[0], path / path.sum(), rtol=1e-5)


def test_an_image_counts_for_each_label_of_its_set_and_once_for_its_path():
    assert counted_names("cat|dog", ["cat", "dog"]) == ["cat", "dog"]
    assert counted_names("fruit/apple", ["fruit", "apple"]) == ["fruit/apple"]
    assert counted_names("a|b", ["a|b"]) == ["a|b"]


def test_single_labels_have_the_softmax_and_temperature_softens_it():
    task = SingleLabel.of([["a"], ["b"]])
    logits_NT = np.array([[2.0, 0.0]], np.float32)
    assert task.probabilities(logits_NT)[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert task.probabilities(logits_NT, temperature=2.0)[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_labels_of_a_set_stand_alone_and_never_overflow():
    task = MultiLabel.of([["a", "b"], ["c"]])
    probability = task.probabilities(np.array([[500.0, -500.0, 0.0]], np.float32))
    np.testing.assert_allclose(probability, [[1.0, 0.0, 0.5]])


def test_targets_are_indices_or_a_truth_matrix():
    assert Hierarchy.of(TREE, ["coarse", "fine"]).targets([TREE[2], TREE[0]]).tolist() == [2, 0]
    task = MultiLabel.of([["a", "b"], ["c"]])
    target_NK = task.targets([["c", "a"], []])
    assert target_NK.tolist() == [[True, False, True], [False, False, False]]
    assert task.names(target_NK) == ["a|c", ""]


def test_a_label_of_no_class_is_named():
    with pytest.raises(DataError, match="zebra is none of the 2 classes"):
        SingleLabel.of([["a"], ["b"]]).targets([["zebra"]])


def test_a_path_that_stops_early_is_named():
    with pytest.raises(DataError, match="fruit: should have a label for each of coarse, fine"):
        Hierarchy.of([("fruit",)], ["coarse", "fine"])


def test_the_ood_score_is_the_free_energy_of_the_logits(tree):
    logits_NT = np.log(np.array([[1.0, 2.0, 1.0, 1.0, 2.0], [3.0, 1.0, 6.0, 1.0, 1.0]])).astype(np.float32)
    single = SingleLabel.of([[name] for name in "abcde"])
    np.testing.assert_allclose(single.ood_score(logits_NT), [-np.log(7), -np.log(12)], rtol=1e-6)
    np.testing.assert_allclose(tree.ood_score(logits_NT), [-np.log(3 * 4), -np.log(4 * 8)], rtol=1e-6)
    sets = MultiLabel.of([list("abcde")])
    together = np.log([2 * 3 * 2 * 2 * 3, 4 * 2 * 7 * 2 * 2])
    np.testing.assert_allclose(sets.ood_score(logits_NT), -together, rtol=1e-6)


def test_flat_logits_score_higher_than_confident_ones_and_large_ones_do_not_overflow():
    task = SingleLabel.of([["a"], ["b"]])
    sure, flat = task.ood_score(np.array([[900.0, 0.0], [0.1, 0.0]], np.float32))
    assert np.isfinite(sure)
    assert flat > sure


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["fruit/apple", "milk/oat"]}, "its 2 levels don't lead to the classes that it predicts"),
        ({"levels": []}, "its 0 levels don't lead to the classes"),
        ({"parents": [0, 0, 2]}, "classes of fine have parents that aren't in coarse"),
        ({"parents": [0, -1, 1]}, "classes of fine have parents that aren't in coarse"),
        ({"parents": [0, 1]}, "classes of fine have parents that aren't in coarse"),
        ({"coarse": ["fruit", "fruit"]}, "coarse holds fruit more than once"),
    ],
)
def test_a_space_that_contradicts_itself_says_how(tree, changes, said):
    assert tree.flaw() is None
    changes, record = dict(changes), tree.model_dump()
    record["levels"][0]["classes"] = changes.pop("coarse", record["levels"][0]["classes"])
    record["levels"][1]["parents"] = changes.pop("parents", record["levels"][1]["parents"])
    assert str(task_from_record("labels", record | changes).flaw()).startswith(said)
