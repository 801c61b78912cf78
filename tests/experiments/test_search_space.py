"""What `darkroom tune` may search, and what `darkroom compare` may be given: mistakes are one sentence each."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from projects import REPOSITORY

from components.shared.errors import SettingsError
from flows.experiments import tune
from flows.experiments.tune import check_space
from flows.project.params import Params, read_params
from flows.project.project import Project
from flows.project.sections import read_sections


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    return Project(tmp_path, tmp_path / "home")


def with_space(project: Project, space: dict[str, Any]) -> Params:
    sections = read_sections(project.params)
    return Params.from_sections(sections | {"tune": sections["tune"] | {"space": space}})


def test_the_space_of_the_repository_can_be_searched(project: Project) -> None:
    check_space(read_params(project.params), project)
    check_space(
        with_space(project, {"model.architecture": ["plain", "resnet18"], "model.dropout": [None, 0.2]}), project
    )


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({}, "params.yaml: tune.space: is empty; name what to search, such as train.learning_rate: {low: 0.0001"),
        ({"train.learnig_rate": [0.1]}, "tune.space.train.learnig_rate: unknown; did you mean train.learning_rate?"),
        ({"learning_rate": [0.1]}, "params.yaml: tune.space.learning_rate: unknown; did you mean train.learning_rate?"),
        ({"trian.epochs": [1]}, "params.yaml: tune.space.trian.epochs: unknown; did you mean train.epochs?"),
        ({"augment.flips": ["none"]}, "tune.space.augment.flips: can't be searched, for all trials share their data"),
        ({"train.optimizer": ["adan"]}, "tune.space: train.optimizer: is 'adan', should be 'adamw', 'adam' or 'sgd'"),
        ({"train.epochs": {"low": 0, "high": 3}}, "tune.space: train.epochs: is 0, should be greater than or equal"),
        ({"train.epochs": {"low": 1.5, "high": 3}}, "tune.space: train.epochs: is 1.5, should be a valid integer"),
        ({"model.architecture": ["resnet81"]}, "tune.space: model.architecture: resnet81 is unknown; did you mean"),
        ({"model.weights": ["missing.pth"]}, "tune.space: model.weights: missing.pth isn't there; give null, imagenet"),
    ],
)
def test_what_can_not_be_searched_is_named(project: Project, space: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_space(with_space(project, space), project)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_values_for_one_training_leave_the_others_as_they_are(project: Project) -> None:
    params = read_params(project.params)
    changed = params.with_values({"train.epochs": 3, "train.seed": 1, "model.architecture": "lenet5"})
    assert (changed.train.epochs, changed.train.seed, changed.model.architecture) == (3, 1, "lenet5")
    assert changed.train.optimizer == params.train.optimizer
    assert changed.promote == params.promote
    assert params.with_values({}) == params
    with pytest.raises(SettingsError, match=r"train\.epoch: unknown; did you mean epochs\?"):
        params.with_values({"train.epoch": 3})
    with pytest.raises(SettingsError, match=r"trian: unknown section; did you mean train\?"):
        params.with_values({"trian.epochs": 3})


def test_a_trial_is_scored_by_the_weights_that_it_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"best_epoch": 2.0, "best_val_accuracy": 0.9}
    monkeypatch.setattr(tune.runs, "metric_history", lambda tracking, run, name: [(0, 0.1), (0, kept[name])])
    assert tune.best_score(SimpleNamespace(tracking=None), "run", "accuracy") == 0.9  # type: ignore[arg-type]
