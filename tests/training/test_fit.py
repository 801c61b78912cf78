"""Training from a job to a model: it learns, it resumes where it was interrupted, it names the setting to change."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from logged import logged
from projects import REPOSITORY
from safetensors.torch import load_file

from components.data.packed.image_stores import JpegStore
from components.models.classifier import load_classifier
from components.shared.errors import SettingsError, TrainingDiverged
from components.shared.files import read_json, write_json
from components.shared.progress import silent
from components.training.fit import EpochReport, FitResult, fit
from components.training.initial_model import initial_model
from components.training.learner import Learner
from components.training.settings import TrainingJob
from flows.project.params import override
from flows.stages.augment import augment

MakeJob = Callable[..., TrainingJob]


class Cut(Exception):
    pass


def ignore_epoch(_: EpochReport) -> None:
    pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(left: Path, right: Path) -> bool:
    others = weights(right)
    return all(torch.equal(value, others[name]) for name, value in weights(left).items())


LONG = {"epochs": 3, "monitor": "loss"}


@pytest.fixture(scope="module")
def unbroken(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """Three epochs of a net with dropout and batch norm."""
    output = tmp_path_factory.mktemp("unbroken")
    return fit(make_job(output, model={"architecture": "plain"}, train=LONG), on_epoch=ignore_epoch)


def test_fit_lowers_the_loss_on_separable_images(unbroken: FitResult) -> None:
    losses = [report.train_loss for report in unbroken.history]
    assert losses[-1] < 0.8 * losses[0]
    assert unbroken.history[-1].val_accuracy > 0.6


def test_fit_reports_each_epoch_once(unbroken: FitResult) -> None:
    assert [report.epoch for report in unbroken.history] == [1, 2, 3]
    assert read_json(unbroken.model.parent / "history.json") == [vars(report) for report in unbroken.history]
    assert unbroken.history[-1].learning_rate < unbroken.history[0].learning_rate


def test_algorithms_are_deterministic_without_filling_new_memory(make_job: MakeJob, tmp_path: Path) -> None:
    seen: list[tuple[bool, bool]] = []

    def look(done: int, total: int) -> None:
        filled = bool(torch.empty(4096).isnan().all())
        seen.append((torch.are_deterministic_algorithms_enabled(), filled))

    fit(make_job(tmp_path, train={"epochs": 1}), on_epoch=lambda _: None, on_step=look)
    assert set(seen) == {(True, False)}


def test_the_speed_is_that_of_training_without_validation(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "on_validation_epoch_start", lambda self: time.sleep(1.0))
    (report,) = fit(make_job(tmp_path, train={"epochs": 1}), on_epoch=ignore_epoch).history
    assert report.seconds > 1.0
    assert 63 / report.images_per_second < report.seconds - 0.9


def test_fit_keeps_the_model_of_the_best_epoch(unbroken: FitResult) -> None:
    losses = [report.val_loss for report in unbroken.history]
    assert unbroken.best_epoch == 1 + losses.index(min(losses))
    model = load_classifier(unbroken.model)
    assert model.spec.classes == ["left", "right", "top"]


def test_nothing_is_pickled(unbroken: FitResult) -> None:
    files = {path.relative_to(unbroken.model.parent).as_posix() for path in unbroken.model.parent.rglob("*.*")}
    assert files == {
        "history.json",
        "plan.json",
        "model/model.json",
        "model/model.safetensors",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from lightning.pytorch.callbacks import ModelCheckpoint
from components.shared.files import read_json
from components.training import checkpoints
from components.training.fit import fit
from components.training.settings import TrainingJob
moment, number, seen = sys.argv[2], int(sys.argv[3]), 0
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
def save(tensors, draft, metadata):
    global seen
    seen += 1
    write(tensors, draft, metadata)
    if moment == "writing" and seen == number:
        os.truncate(draft, os.path.getsize(draft) // 2)
        kill()
def remember(self, *arguments):
    save_best(self, *arguments)
    if moment == "best":
        kill()
write, checkpoints.save_file = checkpoints.save_file, save
save_best, ModelCheckpoint.on_train_epoch_end = ModelCheckpoint.on_train_epoch_end, remember
fit(
    TrainingJob.from_section("job", read_json(Path(sys.argv[1]))),
    on_step=lambda done, total: kill() if moment == "step" and done == number else None,
    on_epoch=lambda report: kill() if moment == "epoch" and report.epoch == number else None,
)
"""


@pytest.fixture(scope="module")
def often_killed(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same job with a checkpoint a step, killed again and again and resumed after each."""
    output = tmp_path_factory.mktemp("killed")
    train = LONG | {"checkpoint_minutes": 1e-9}
    write_json(output / "job.json", make_job(output, model={"architecture": "plain"}, train=train).model_dump())
    # Within an epoch; half-way through the file of a checkpoint; between the best checkpoint and the last.
    for moment, number in (("step", 2), ("writing", 2), ("best", 1)):
        command = [sys.executable, "-c", KILLED, str(output / "job.json"), moment, str(number)]
        assert subprocess.run(command, cwd=REPOSITORY, timeout=250).returncode == -signal.SIGKILL, moment
        assert not (output / "model").exists()
    return output


def test_a_training_killed_at_any_moment_ends_with_the_same_weights(often_killed: Path, unbroken: FitResult) -> None:
    job = TrainingJob.from_section("job", read_json(often_killed / "job.json"))
    with logged() as messages:
        result = fit(job, on_epoch=ignore_epoch)
    assert "train resumes from its last checkpoint" in messages
    assert [report.epoch for report in result.history] == [1, 2, 3]
    for score in ("train_loss", "val_loss", "learning_rate"):
        scores = [getattr(one, score) for one in result.history]
        assert scores == [getattr(one, score) for one in unbroken.history]
    assert result.best_epoch == unbroken.best_epoch
    assert same(often_killed / "model", unbroken.model)
    assert [path.name for path in (often_killed / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_a_resumed_training_prepares_only_what_is_left(make_job: MakeJob, tmp_path: Path) -> None:
    def cut(done: int, total: int) -> None:
        if done == 7:
            raise Cut

    for name, on_step in (("cut", cut), ("whole", lambda done, total: None)):
        train = {"epochs": 2, "checkpoint_minutes": 1e-9, "loader_workers": 2}
        job = make_job(tmp_path / name, train=train)
        steps: list[int] = []
        if name == "cut":
            with pytest.raises(Cut):
                fit(job, on_epoch=ignore_epoch, on_step=on_step)
        fit(job, on_epoch=ignore_epoch, on_step=lambda done, total, seen=steps: seen.append(done))
        assert steps == list(range(7 if name == "cut" else 1, 9))
    assert same(tmp_path / "cut" / "model", tmp_path / "whole" / "model")


def test_a_checkpoint_of_other_settings_or_data_is_refused(
    unbroken: FitResult, make_job: MakeJob, packed: Path, tmp_path: Path
) -> None:
    shutil.copytree(unbroken.model.parent, tmp_path / "job")
    other = make_job(tmp_path / "job", model={"architecture": "plain"}, train=LONG | {"learning_rate": 0.1})
    with pytest.raises(SettingsError, match=r"other settings \(train\.learning_rate was 0\.005, is 0\.1\); set them"):
        fit(other, on_epoch=ignore_epoch)
    shutil.copytree(packed, tmp_path / "data")
    record = read_json(tmp_path / "data" / "dataset.json")
    write_json(tmp_path / "data" / "dataset.json", record | {"split_digest": "another"})
    job = make_job(tmp_path / "job", model={"architecture": "plain"}, train=LONG)
    with pytest.raises(SettingsError, match="a checkpoint made with other data; give the job another output folder"):
        fit(job.model_copy(update={"data": str(tmp_path / "data")}), on_epoch=ignore_epoch)


def test_a_training_killed_after_its_last_epoch_still_gives_its_model(
    unbroken: FitResult, make_job: MakeJob, tmp_path: Path
) -> None:
    shutil.copytree(unbroken.model.parent, tmp_path / "job")
    shutil.rmtree(tmp_path / "job" / "model")
    job = make_job(tmp_path / "job", model={"architecture": "plain"}, train=LONG)
    result = fit(job, on_epoch=ignore_epoch)
    assert result.history == unbroken.history
    assert same(result.model, unbroken.model)


def test_a_training_resumes_from_its_last_epoch_even_if_another_was_better(make_job: MakeJob, tmp_path: Path) -> None:
    def cut(report: EpochReport) -> None:
        if report.epoch == 3:
            raise Cut

    job = make_job(tmp_path, train={"learning_rate": 1e-12, "epochs": 3, "monitor": "accuracy", "augment": False})
    with pytest.raises(Cut):
        fit(job, on_epoch=cut)
    again: list[int] = []
    result = fit(job, on_epoch=lambda report: again.append(report.epoch))
    assert again == [3]
    assert result.best_epoch == 1


def test_the_seed_decides_the_weights(make_job: MakeJob, tmp_path: Path) -> None:
    seeds = {"one": 0, "again": 0, "other": 1}
    models = {
        name: fit(make_job(tmp_path / name, train={"epochs": 1, "seed": seed}), on_epoch=ignore_epoch).model
        for name, seed in seeds.items()
    }
    assert same(models["one"], models["again"])
    assert not same(models["one"], models["other"])


@pytest.mark.parametrize("epochs", [3, 1])
def test_fit_names_the_setting_to_change_when_it_diverges(make_job: MakeJob, tmp_path: Path, epochs: int) -> None:
    # One epoch of a single batch: only the validation sees what the only step has done.
    settings = {"learning_rate": 1e30, "optimizer": "sgd", "warmup_epochs": 0, "batch_size": 512, "epochs": epochs}
    with pytest.raises(TrainingDiverged, match=r"lower train\.learning_rate \(now 1e\+30\)"):
        fit(make_job(tmp_path, model={"architecture": "plain"}, train=settings), on_epoch=ignore_epoch)
    assert not (tmp_path / "model").exists()


def test_training_stops_early_when_nothing_gets_better(make_job: MakeJob, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-12, "epochs": 6, "patience": 1, "monitor": "accuracy", "augment": False}
    with logged() as messages:
        result = fit(make_job(tmp_path, train=settings), on_epoch=ignore_epoch)
    assert len(result.history) == 2
    assert result.best_epoch == 1
    assert "stopped after epoch 2: validation accuracy didn't improve for train.patience (1) epochs" in messages


def test_a_training_that_had_stopped_early_is_not_resumed(make_job: MakeJob, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-12, "epochs": 6, "patience": 1, "monitor": "accuracy", "augment": False}
    job = make_job(tmp_path, train=settings)
    stopped = fit(job, on_epoch=ignore_epoch)
    shutil.rmtree(stopped.model)
    assert fit(job, on_epoch=ignore_epoch).history == stopped.history


def test_a_frozen_backbone_keeps_its_weights_and_statistics_while_the_head_learns(
    unbroken: FitResult, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(
        tmp_path,
        train={"epochs": 1},
        model={
            "architecture": "plain",
            "freeze_backbone": True,
            "weights": str(unbroken.model / "model.safetensors"),
        },
    )
    with logged() as messages:
        before, after = weights(unbroken.model), weights(fit(job, on_epoch=ignore_epoch).model)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert any("model.safetensors" in message for message in messages)


def test_finetuning_starts_from_the_model_and_moves_the_unfrozen_layer_groups_alone(
    unbroken: FitResult, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(tmp_path, step="finetune", start_from=unbroken.model, finetune={"unfreeze_last_n": 2})
    result = fit(job, on_epoch=ignore_epoch)
    before, after = weights(unbroken.model), weights(result.model)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"classifier.weight", "features.block3.0.weight"} <= changed
    assert all(name.startswith(("classifier", "features.block3")) for name in changed)
    assert result.history[0].epochs == 1


@pytest.mark.parametrize("step", ["train", "finetune"])
def test_more_layer_groups_than_there_are_can_not_be_unfrozen(
    step: str, unbroken: FitResult, make_job: MakeJob, tmp_path: Path
) -> None:
    start = unbroken.model if step == "finetune" else None
    job = make_job(
        tmp_path, step=step, start_from=start, model={"architecture": "plain"}, finetune={"unfreeze_last_n": 5}
    )
    with pytest.raises(
        SettingsError, match=r"finetune\.unfreeze_last_n: is 5, but plain has 4 layer groups; give at most 4"
    ):
        fit(job, on_epoch=ignore_epoch)


def test_a_net_with_auxiliary_heads_learns(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, model={"architecture": "googlenet"}, train={"epochs": 1, "batch_size": 64})
    torch.manual_seed(job.train.seed)
    before = initial_model(job).net.state_dict()
    model = load_classifier(fit(job, on_epoch=ignore_epoch).model)
    for head in ("aux1.fc2.weight", "aux2.fc2.weight", "fc.weight"):
        assert not torch.equal(model.net.state_dict()[head], before[head]), head
    assert not model.training


WAYS = {
    "averaged": {
        "ema_decay": 0.9,
        "mixup": 0.4,
        "cutmix": 1.0,
        "random_erasing": 0.3,
        "schedule": "plateau",
        "plateau_patience": 1,
        "gradient_clip_norm": 0.5,
        "model_soup_size": 2,
        "class_weights": "auto",
        "patience": 3,
    },
    "cyclic": {
        "schedule": "cyclic",
        "cycles": 2,
        "optimizer": "sgd",
        "gradient_accumulation_steps": 2,
        "progressive_resizing": 0.5,
        "sampling": "balanced",
        "loss": "focal",
        "scale_learning_rate_with_batch": True,
        "activation_checkpointing": True,
        "cache_on_gpu": "on",
        "channels_last": "on",
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_train_learns_and_resumes_to_the_same_weights(make_job: MakeJob, tmp_path: Path, way: str) -> None:
    def cut(done: int, total: int) -> None:
        # Half-way through the third epoch, where there is an average, a schedule and a best score to lose.
        if done == total * 5 // 8:
            raise Cut

    train = {"epochs": 4, "checkpoint_minutes": 1e-9, "warmup_epochs": 0.5, "learning_rate": 0.01} | WAYS[way]
    jobs = [make_job(tmp_path / name, model={"architecture": "plain"}, train=train) for name in ("whole", "cut")]
    whole = fit(jobs[0], on_epoch=ignore_epoch)
    with pytest.raises(Cut):
        fit(jobs[1], on_epoch=ignore_epoch, on_step=cut)
    resumed = fit(jobs[1], on_epoch=ignore_epoch)
    assert same(whole.model, resumed.model)
    assert [report.train_loss for report in whole.history] == [report.train_loss for report in resumed.history]
    assert whole.history[-1].val_loss < whole.history[0].val_loss
    if way == "cyclic":
        members = sorted((tmp_path / "cut" / "members").iterdir())
        assert [member.name for member in members] == ["01", "02"]
        assert not same(*members)
        assert same(members[1], tmp_path / "whole" / "members" / "02")


def test_a_training_of_one_epoch_does_not_end_while_its_rate_climbs(make_job: MakeJob, tmp_path: Path) -> None:
    result = fit(make_job(tmp_path, train={"epochs": 1, "warmup_epochs": 1}), on_epoch=ignore_epoch)
    assert result.history[0].learning_rate < 0.5 * 0.005


def test_progress_counts_steps_up_to_the_whole(make_job: MakeJob, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    fit(make_job(tmp_path), on_epoch=ignore_epoch, on_step=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} == {len(steps)}


def test_training_from_jpegs_decodes_each_once_and_leaves_no_decoded_file(
    make_job: MakeJob, packed: Path, params_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "params.yaml"
    settings.write_text(params_file.read_text())
    override(settings, ["augment.store=jpeg"], check=lambda _: None)
    data = tmp_path / "augmented"
    augment(settings, packed.parent / "raw", packed.parent / "split", data, silent)
    decodes: list[int] = []
    real = JpegStore._decoded
    monkeypatch.setattr(JpegStore, "_decoded", lambda store, row: decodes.append(row) or real(store, row))
    job = make_job(tmp_path / "job").model_copy(update={"data": str(data)})
    result = fit(job, on_epoch=ignore_epoch)
    assert len(result.history) == 2
    assert sorted(decodes) == sorted(set(decodes))
    assert decodes
    assert not list((tmp_path / "job").glob("*.decoded*"))
