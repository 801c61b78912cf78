"""What a training passes over is said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from logged import logged

from components.training.fit import fit
from components.training.ignored_settings import ineffective_settings
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]


@pytest.mark.parametrize(
    ("train", "place", "setting"),
    [
        ({"schedule": "one_cycle", "warmup_epochs": 1}, "", "warmup_epochs"),
        ({"activation_checkpointing": True}, "cached", "activation_checkpointing"),
        ({"loader_workers": 2}, "cached", "loader_workers"),
        ({"loader_workers": 2}, "cache_on_gpu", "loader_workers"),
    ],
)
def test_a_setting_without_effect_is_named(
    train: dict[str, object], place: str, setting: str, make_job: MakeJob, tmp_path: Path
) -> None:
    def said(**changes: object) -> list[str]:
        job = make_job(tmp_path, train=changes)
        return ineffective_settings(job, cached=place == "cached", cache_on_gpu=place == "cache_on_gpu")

    (sentence,) = said(**train)
    assert sentence.startswith(f"train.{setting} has no effect: ")
    assert said() == []


@pytest.mark.parametrize(
    "train", [{"activation_checkpointing": True}, {"loader_workers": 2}, {"schedule": "one_cycle"}]
)
def test_what_has_an_effect_is_not_named(train: dict[str, object], make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, train={"warmup_epochs": 0} | train)
    assert ineffective_settings(job, cached=False, cache_on_gpu=False) == []


def test_a_head_on_cached_features_needs_no_workers(make_job: MakeJob, tmp_path: Path) -> None:
    train = {"augment": False, "epochs": 1, "loader_workers": 2, "activation_checkpointing": True}
    job = make_job(tmp_path, model={"freeze_backbone": True}, train=train)
    with logged() as said:
        fit(job, on_epoch=lambda _: None)
    settings = [sentence.partition(" ")[0] for sentence in said if "no effect" in sentence]
    assert settings == ["train.activation_checkpointing", "train.loader_workers"]
