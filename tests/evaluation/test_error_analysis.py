"""Which images to look at."""

import numpy as np
import pytest
from scored_predictions import leaning, single_label_predictions

from components.evaluation.embedding_map import embedding_map
from components.evaluation.error_analysis import (
    high_confidence_errors,
    low_confidence_correct,
    nearest,
    suspected_labels,
)
from components.evaluation.predictions import Predictions
from components.task.multi_label import MultiLabel


def test_mistakes_come_by_sureness_and_hits_by_doubt() -> None:
    scored = single_label_predictions(np.array([0, 0, 0, 1]), np.array([[2, 0], [0, 1], [0, 3], [1, 1.1]]))
    assert high_confidence_errors(scored, 5) == [2, 1]
    assert high_confidence_errors(scored, 1) == [2]
    assert low_confidence_correct(scored, 5) == [3, 0]


def test_planted_wrong_labels_are_suspected_first() -> None:
    scored = leaning(300, 5, lean=9)
    target_N = scored.target.copy()
    wrong = [3, 77, 150]
    target_N[wrong] = (target_N[wrong] + 1) % 5
    found = suspected_labels(single_label_predictions(target_N, scored.logits_NT), 10)
    assert {one.path for one in found[:3]} == {f"{row:04d}.png" for row in wrong}
    first = next(one for one in found if one.path == "0003.png")
    assert (first.label, first.suggested) == ("c04", "c03")


def test_of_sets_a_missing_label_is_suspected_by_name() -> None:
    random = np.random.default_rng(2)
    truth_NK = random.random((200, 3)) < 0.5
    logits_NK = np.where(truth_NK, 6, -6) + random.normal(size=(200, 3))
    labelled_NK = truth_NK.copy()
    row = int(np.flatnonzero(truth_NK[:, 1])[0])
    labelled_NK[row, 1] = False
    names = [f"{number}" for number in range(200)]
    task = MultiLabel(classes=["cat", "dog", "sea"])
    found = suspected_labels(Predictions(names, names, labelled_NK, logits_NK.astype(np.float32), task), 3)
    assert (found[0].path, found[0].label, found[0].suggested) == (str(row), "without dog", "dog")


def test_classes_that_the_split_lacks_are_never_suggested() -> None:
    logits_NK = np.tile([0.0, 9.0, 0.0], (20, 1))
    found = suspected_labels(single_label_predictions(np.arange(20) % 2 * 2, logits_NK), 50)
    assert {one.suggested for one in found} <= {"c00", "c02"}


def test_the_nearest_are_those_of_the_largest_cosine() -> None:
    random = np.random.default_rng(3)
    known = random.normal(size=(50, 8)).astype(np.float32)
    places, cosines = nearest(2 * known[[7, 30]] + 1e-3, known, count=3)
    assert places[:, 0].tolist() == [7, 30]
    assert cosines[:, 0] == pytest.approx(1, abs=1e-4)
    assert np.all(np.diff(cosines, axis=1) <= 0)
    assert nearest(known[:2], known[:1], count=5)[0].shape == (2, 1)
    assert nearest(known[:0], known, count=5)[0].shape == (0, 5)


def test_groups_lie_apart_on_the_map_the_same_way_each_time() -> None:
    random = np.random.default_rng(4)
    group_N = np.arange(60) % 3
    features_NF = (10 * np.eye(12)[group_N] + random.normal(size=(60, 12))).astype(np.float32)
    places = embedding_map(features_NF, seed=1)
    assert places.min() == 0
    assert places.max() == 1
    within = [np.linalg.norm(places[group_N == g] - places[group_N == g].mean(0), axis=1).mean() for g in range(3)]
    centres = np.stack([places[group_N == g].mean(0) for g in range(3)])
    assert max(within) < np.linalg.norm(centres[0] - centres[1]) / 2
    assert np.array_equal(places, embedding_map(features_NF, seed=1))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_images_have_a_map_too(count: int) -> None:
    features_NF = np.random.default_rng(5).normal(size=(count, 4)).astype(np.float32)
    assert np.isfinite(embedding_map(features_NF, seed=0)).all()
    assert np.isfinite(embedding_map(np.ones((count, 4), np.float32), seed=0)).all()
