"""How significantly a challenger's scores differ from the champion's."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scored_predictions import leaning

from components.evaluation.metrics import score
from components.evaluation.score_differences import changes_between, changes_by_name
from components.task.hierarchy import Hierarchy
from components.task.task import Task

NAMES = ("accuracy", "macro_f1", "log_loss", "expected_calibration_error", "macro_roc_auc")


def test_an_unchanged_model_changes_no_score() -> None:
    model = leaning(60, 3, lean=1)
    found = changes_between(model, replace(model), NAMES, confidence=0.95, top_k=2)
    assert found.intervals == dict.fromkeys(NAMES, (0, 0))
    assert found.challenger == found.champion == score(model, top_k=2).headline()


def test_a_worse_model_loses_significantly_and_the_result_is_repeatable() -> None:
    worse, better = leaning(300, 3, lean=0.5, seed=1), leaning(300, 3, lean=2)
    found = changes_between(worse, better, NAMES, confidence=0.99, top_k=2)
    for name in ("accuracy", "macro_f1", "macro_roc_auc"):
        low, high = found.intervals[name]
        assert low < found.challenger[name] - found.champion[name] < high < 0
    assert found.intervals["log_loss"][0] > 0
    assert changes_between(worse, better, NAMES, confidence=0.99, top_k=2) == found
    wide, narrow = (changes_between(worse, better, ["macro_f1"], confidence=one, top_k=2) for one in (0.99, 0.8))
    assert np.ptp(wide.intervals["macro_f1"]) > 1.5 * np.ptp(narrow.intervals["macro_f1"])


def test_models_with_other_classes_compare_by_what_they_say() -> None:
    worse, better = leaning(300, 3, lean=0.5, seed=1), leaning(300, 3, lean=2)
    names = ("accuracy", "macro_f1")
    expected = changes_between(worse, better, names, confidence=0.95, top_k=2)
    label_N, worse_N, better_N = (worse.task.names(of) for of in (worse.target, worse.predicted, better.predicted))
    found = changes_by_name(label_N, worse_N, better_N, names, confidence=0.95)
    assert found.paired == expected.paired
    for name in names:
        assert found.intervals[name] == pytest.approx(expected.intervals[name])
        assert found.challenger[name] == pytest.approx(expected.challenger[name])


def test_scores_of_coarser_levels_have_intervals_too() -> None:
    paths = [("warm", "red"), ("warm", "pink"), ("cold", "blue")]
    task = Hierarchy.of(paths, ("tone", "colour"))
    target_N = np.arange(90) % 3
    noise_NT = np.random.default_rng(1).normal(size=(90, task.num_logits)).astype(np.float32)
    worse = replace(leaning(90, 3, lean=0), task=task, target=target_N, logits_NT=noise_NT)
    better = replace(worse, logits_NT=noise_NT + 8 * _true_logits(task, target_N))
    found = changes_between(worse, better, ["tone.accuracy"], confidence=0.95, top_k=2)
    low, high = found.intervals["tone.accuracy"]
    assert low < found.challenger["tone.accuracy"] - found.champion["tone.accuracy"] < high < 0
    assert set(found.intervals) == {"tone.accuracy"}


def _true_logits(task: Task, target_N: NDArray[np.int64]) -> NDArray[np.float32]:
    """[N, T]: one for every level's true class."""
    return np.concatenate(
        [
            np.eye(len(level.classes))[ancestor_K[target_N]]
            for level, ancestor_K in zip(task.levels, task.ancestors_DK(), strict=True)
        ],
        axis=1,
        dtype=np.float32,
    )
