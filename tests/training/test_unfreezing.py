"""Which layer groups are trained when, batch norms that are frozen, and small images before the full ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from logged import logged
from safetensors.torch import load_file
from torch import nn

from components.data.packed.loaders import open_split
from components.models.architectures import build_on_meta
from components.models.classifier import ImageClassifier, load_classifier, save_classifier
from components.models.layer_groups import layer_groups, unfreeze_last
from components.shared.errors import SettingsError
from components.task.multi_label import MultiLabel
from components.training.fit import fit
from components.training.initial_model import initial_model
from components.training.progressive_resizing import shrink
from components.training.settings import TrainingJob
from components.training.unfreezing import num_unfrozen_groups

MakeJob = Callable[..., TrainingJob]


@pytest.fixture(scope="module")
def trained(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = make_job(tmp_path_factory.mktemp("trained"), model={"architecture": "plain"}, train={"epochs": 1})
    return fit(job, on_epoch=lambda _: None).model


def changed(before: Path, after: Path) -> set[str]:
    """Names of the tensors that differ, statistics of batch norms included."""
    old = load_file(before / "model.safetensors")
    new = load_file(after / "model.safetensors")
    return {name for name, value in new.items() if not torch.equal(value, old[name])}


def tuned(make_job: MakeJob, output: Path, start: Path, **finetune: object) -> Path:
    return fit(make_job(output, step="finetune", start_from=start, finetune=finetune), on_epoch=lambda _: None).model


@pytest.mark.parametrize(("epoch", "learning"), [(0, 1), (1, 1), (2, 2), (5, 3), (6, 4), (60, 4)])
def test_one_more_group_is_trained_every_few_epochs(epoch: int, learning: int) -> None:
    assert num_unfrozen_groups(epoch, every=2, heads=1, most=4) == learning


def test_all_that_is_in_the_optimizer_learns_at_last() -> None:
    model = build_on_meta("vit_b_32", num_classes=2, image_size_px=64)
    count = len(layer_groups(model))
    unfreeze_last(model, 1)
    assert {name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad} == {"heads"}
    unfreeze_last(model, count)
    assert all(value.requires_grad for value in model.parameters())


def test_the_head_is_trained_before_the_backbone(make_job: MakeJob, trained: Path, tmp_path: Path) -> None:
    first = tuned(make_job, tmp_path / "one", trained, epochs=1, unfreeze_every_n_epochs=1)
    assert changed(trained, first) == {"classifier.weight", "classifier.bias"}
    later = changed(trained, tuned(make_job, tmp_path / "two", trained, epochs=2, unfreeze_every_n_epochs=1))
    assert all(name.startswith(("classifier", "features.block3")) for name in later)


def test_groups_that_are_never_unfrozen_are_counted(make_job: MakeJob, trained: Path, tmp_path: Path) -> None:
    def said(**finetune: object) -> list[str]:
        with logged() as messages:
            initial_model(make_job(tmp_path, step="finetune", start_from=trained, finetune=finetune))
        return messages

    assert said(epochs=2, unfreeze_every_n_epochs=5) == [
        "finetune.unfreeze_every_n_epochs is 5: 1 of 4 layer groups are trained in 2 epochs, and all would be in 16"
    ]
    for learnt in ({"epochs": 16, "unfreeze_every_n_epochs": 5}, {"epochs": 2, "unfreeze_every_n_epochs": 0}):
        assert said(**learnt) == []
    assert said(epochs=2, unfreeze_every_n_epochs=1, unfreeze_last_n=2) == []


def test_batch_norms_can_keep_their_statistics(make_job: MakeJob, trained: Path, tmp_path: Path) -> None:
    moved = changed(trained, tuned(make_job, tmp_path, trained, epochs=1, freeze_batch_norm=True))
    assert "features.block1.0.weight" in moved
    assert not [name for name in moved if "running" in name or "num_batches" in name]


def test_a_model_of_other_labels_is_not_tuned_on(make_job: MakeJob, trained: Path, tmp_path: Path) -> None:
    model = load_classifier(trained)
    model.spec = model.spec.model_copy(update={"labels": MultiLabel.of([["left"], ["right"], ["top"]])})
    save_classifier(model, tmp_path / "other")
    with pytest.raises(
        SettingsError, match=r"^finetune continues a model that predicts 3 multi-label classes, and the"
    ):
        tuned(make_job, tmp_path / "job", tmp_path / "other", epochs=1)


def test_training_sees_smaller_images_than_finetuning(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path / "small", model={"architecture": "plain"}, train={"epochs": 1, "image_size_px": 8})
    assert (job.side_px, job.model_copy(update={"step": "finetune"}).side_px) == (8, 16)
    small = fit(job, on_epoch=lambda _: None)
    full = make_job(tmp_path / "full", model={"architecture": "plain"}, train={"epochs": 1})
    assert changed(fit(full, on_epoch=lambda _: None).model, small.model)
    model, split = load_classifier(small.model), open_split(Path(job.data), "val")
    with torch.no_grad():
        logits_BT = model(shrink(torch.from_numpy(np.array(split.pixels_NHWC[:])), 8))
    loss = nn.functional.cross_entropy(logits_BT, torch.from_numpy(split.target))
    assert small.history[0].val_loss == pytest.approx(loss.item(), rel=1e-4)


def test_finetuning_sees_full_images_and_keeps_no_cycles(make_job: MakeJob, trained: Path, tmp_path: Path) -> None:
    small = {"progressive_resizing": 0.5, "schedule": "cyclic", "cycles": 2}
    job = make_job(tmp_path, step="finetune", start_from=trained, train=small, finetune={"epochs": 2})
    seen: set[int] = set()

    def look(_: nn.Module, images: tuple[torch.Tensor], __: torch.Tensor) -> None:
        if isinstance(_, ImageClassifier):
            seen.add(images[0].shape[1])

    hook = nn.modules.module.register_module_forward_hook(look)
    try:
        with logged() as messages:
            result = fit(job, on_epoch=lambda _: None)
    finally:
        hook.remove()
    assert seen == {16}
    assert not (tmp_path / "members").exists()
    assert result.history[0].learning_rate > result.history[1].learning_rate
    assert messages[:2] == [
        "train.progressive_resizing applies to train alone: finetune uses full-size images from the start",
        "train.schedule: cyclic applies to train alone: finetune follows one cosine",
    ]


@pytest.mark.parametrize(
    ("architecture", "side", "sentence"),
    [
        ("plain", 32, r"train\.image_size_px: is 32, should be at most preprocess\.image_size_px \(16\)"),
        ("lenet5", 8, r"train\.image_size_px: is 8 px, which lenet5 doesn't take; set it to null, or larger"),
    ],
)
def test_a_training_size_that_does_not_fit_is_refused(
    architecture: str, side: int, sentence: str, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(tmp_path, model={"architecture": architecture}, train={"image_size_px": side})
    with pytest.raises(SettingsError, match=sentence):
        fit(job, on_epoch=lambda _: None)
