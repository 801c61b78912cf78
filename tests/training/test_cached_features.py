"""Heads that train on cached features: the same head as through the frozen backbone, in less time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from logged import logged
from safetensors.torch import load_file

from components.data.packed.loaders import PackedSplit
from components.models.classifier import load_classifier
from components.shared.errors import DataError, SettingsError
from components.training import cached_features
from components.training.epoch_report import FitResult
from components.training.fit import fit
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]
FirstImages = Callable[[int], Path]


def frozen(make_job: MakeJob, output: Path, *, architecture: str = "lenet5", **train: object) -> TrainingJob:
    return make_job(
        output,
        model={"architecture": architecture, "freeze_backbone": True},
        train={"augment": False, "epochs": 2, "label_smoothing": 0.0} | train,
    )


def trained(job: TrainingJob) -> tuple[FitResult, list[str]]:
    with logged() as messages:
        return fit(job, on_epoch=lambda _: None), messages


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    return load_file(result.model / "model.safetensors")


def test_a_head_on_cached_features_is_the_head_of_the_frozen_network(make_job: MakeJob, tmp_path: Path) -> None:
    once, said = trained(frozen(make_job, tmp_path / "a" / "once"))
    repeated, _ = trained(frozen(make_job, tmp_path / "b" / "repeated", cache_features="off"))
    assert any("the head trains on cached features of" in sentence for sentence in said)
    assert [report.val_accuracy for report in once.history] == [report.val_accuracy for report in repeated.history]
    for name, value in weights(repeated).items():
        assert torch.allclose(weights(once)[name], value, atol=1e-5), name
    assert not load_classifier(once.model).training


def test_features_are_kept_for_the_next_head_until_others_need_their_room(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    work = cached_features._computed

    def count(split: PackedSplit, *rest: Any) -> Any:
        computed.append(name)
        return work(split, *rest)

    monkeypatch.setattr(cached_features, "_computed", count)
    for name, train in (
        ("first", {}),
        ("another rate", {"learning_rate": 0.1}),
        ("another backbone", {"seed": 99}),
        ("the first backbone again", {"learning_rate": 0.01}),
    ):
        trained(frozen(make_job, tmp_path / name, epochs=1, **train))
    assert computed == ["first", "first", "another backbone", "another backbone"]
    size = sum(file.stat().st_size for file in (tmp_path / "features").iterdir())
    monkeypatch.setattr(cached_features, "_MAX_CACHE_BYTES", size)
    for name, seed in (("a third backbone", 5), ("the first one yet again", 7), ("the second one again", 99)):
        trained(frozen(make_job, tmp_path / name, epochs=1, seed=seed, weight_decay=0.5))
    assert computed[4:] == ["a third backbone", "a third backbone", "the second one again", "the second one again"]
    assert sum(file.stat().st_size for file in (tmp_path / "features").iterdir()) <= size


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ({"augment": True}, "set train.augment to false"),
        ({"mixup": 0.2}, "set train.mixup to 0"),
        ({"progressive_resizing": 0.5}, "set train.progressive_resizing to 1.0"),
    ],
)
def test_features_are_not_cached_where_each_epoch_sees_other_images(
    train: dict[str, object], reason: str, make_job: MakeJob, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=f"train.cache_features: is on, but .*{reason}"):
        trained(frozen(make_job, tmp_path, architecture="plain", cache_features="on", **train))


def test_features_that_a_learned_attention_pools_are_not_cached(make_job: MakeJob, tmp_path: Path) -> None:
    job = frozen(make_job, tmp_path, architecture="plain", cache_features="on")
    job = job.model_copy(update={"model": job.model.model_copy(update={"pooling": "attention"})})
    with pytest.raises(SettingsError, match=r"the attention pooling .* is trained too; set model\.pooling to average"):
        trained(job)


def test_a_backbone_that_learns_has_no_features_to_cache(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, train={"augment": False, "cache_features": "on"})
    with pytest.raises(SettingsError, match=r"is on, but the backbone is trained; set model\.freeze_backbone to true"):
        trained(job)


def test_finetuning_trains_the_backbone_where_features_were_cached_for_training(
    make_job: MakeJob, tmp_path: Path
) -> None:
    start, _ = trained(frozen(make_job, tmp_path / "train", architecture="plain", epochs=1, cache_features="on"))
    tuned = frozen(make_job, tmp_path / "tune", architecture="plain", cache_features="on").model_copy(
        update={"step": "finetune", "start_from": str(start.model)}
    )
    result, said = trained(tuned)
    assert not torch.equal(*(weights(one)["features.block1.0.weight"] for one in (start, result)))
    assert "finetune caches no features: the backbone is trained there" in said


def test_one_image_is_too_few_for_a_head_on_cached_features(
    make_job: MakeJob, first_images: FirstImages, tmp_path: Path
) -> None:
    data = str(first_images(1))
    with pytest.raises(DataError, match=r"the train split holds 1 image, and training needs 2; .*split\.fractions"):
        trained(frozen(make_job, tmp_path / "job").model_copy(update={"data": data}))
