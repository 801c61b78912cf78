"""What a training passes over is said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.training.fit import fit
from components.training.ignored_settings import without_effect
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]


@pytest.mark.parametrize(
    ("train", "place", "setting"),
    [
        ({"schedule": "one_cycle", "warmup_epochs": 1}, "", "warmup_epochs"),
        ({"recompute": True}, "cached", "recompute"),
        ({"loader_workers": 2}, "cached", "loader_workers"),
        ({"loader_workers": 2}, "resident", "loader_workers"),
    ],
)
def test_a_setting_without_effect_is_named(
    train: dict[str, object], place: str, setting: str, make_job: MakeJob, tmp_path: Path
) -> None:
    def said(**changes: object) -> list[str]:
        job = make_job(tmp_path, train=changes)
        return without_effect(job, cached=place == "cached", resident=place == "resident")

    (sentence,) = said(**train)
    assert sentence.startswith(f"train.{setting} has no effect, for ")
    assert said() == []


@pytest.mark.parametrize("train", [{"recompute": True}, {"loader_workers": 2}, {"schedule": "one_cycle"}])
def test_what_has_an_effect_is_not_named(train: dict[str, object], make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, train={"warmup_epochs": 0} | train)
    assert without_effect(job, cached=False, resident=False) == []


def test_a_head_on_cached_features_needs_no_workers(make_job: MakeJob, tmp_path: Path) -> None:
    train = {"augment": False, "epochs": 1, "loader_workers": 2, "recompute": True}
    said: list[str] = []
    job = make_job(tmp_path, model={"freeze_backbone": True}, train=train)
    fit(job, on_epoch=lambda _: None, say=said.append)
    told = [sentence.partition(" ")[0] for sentence in said if "no effect" in sentence]
    assert told == ["train.recompute", "train.loader_workers"]
