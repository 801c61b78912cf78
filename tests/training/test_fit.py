"""Training from a job to a model: it learns, it goes on where it was cut off, it says what to change."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.errors import SettingsError, TrainingDiverged
from components.files import read_json, write_json
from components.models.classifier import load_classifier
from components.training.fit import EpochReport, FitResult, fit
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]
REPOSITORY = Path(__file__).resolve().parents[2]


def tell_nobody(_: EpochReport) -> None:
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
    return fit(make_job(output, model={"architecture": "plain"}, train=LONG), on_epoch=tell_nobody)


def test_fit_lowers_the_loss_on_images_that_can_be_told_apart(unbroken: FitResult) -> None:
    losses = [report.train_loss for report in unbroken.history]
    assert losses[-1] < 0.8 * losses[0]
    assert unbroken.history[-1].val_accuracy > 0.6


def test_fit_reports_each_epoch_once(unbroken: FitResult) -> None:
    assert [report.epoch for report in unbroken.history] == [1, 2, 3]
    assert read_json(unbroken.model.parent / "history.json") == [vars(report) for report in unbroken.history]
    assert unbroken.history[-1].learning_rate < unbroken.history[0].learning_rate


def test_fit_keeps_the_model_of_the_best_epoch(unbroken: FitResult) -> None:
    losses = [report.val_loss for report in unbroken.history]
    assert unbroken.best_epoch == 1 + losses.index(min(losses))
    model = load_classifier(unbroken.model)
    assert model.spec.classes == ["left", "right", "top"]


def test_nothing_is_pickled(unbroken: FitResult) -> None:
    files = {path.relative_to(unbroken.model.parent).as_posix() for path in unbroken.model.parent.rglob("*.*")}
    assert files == {
        "history.json",
        "model/model.json",
        "model/model.safetensors",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from components.files import read_json
from components.training.fit import fit
from components.training.settings import TrainingJob
def kill(report):
    if report.epoch == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
fit(TrainingJob.from_section("job", read_json(Path(sys.argv[1]))), on_epoch=kill)
"""


@pytest.fixture(scope="module")
def killed(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same job, killed when it reported its second epoch: the first one is kept."""
    output = tmp_path_factory.mktemp("killed")
    write_json(output / "job.json", make_job(output, model={"architecture": "plain"}, train=LONG).model_dump())
    command = [sys.executable, "-c", KILLED, str(output / "job.json"), "2"]
    assert subprocess.run(command, cwd=REPOSITORY, timeout=250).returncode == -signal.SIGKILL
    assert not (output / "model").exists()
    return output


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(killed: Path, unbroken: FitResult) -> None:
    command = [sys.executable, "-m", "components.training.process", str(killed / "job.json")]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=250)
    assert answer.returncode == 0, answer.stderr
    assert "going on from the last finished epoch" in answer.stderr
    result = read_json(killed / "result.json")
    assert [report["epoch"] for report in result["history"]] == [1, 2, 3]
    assert [report["val_loss"] for report in result["history"]] == [one.val_loss for one in unbroken.history]
    assert result["best_epoch"] == unbroken.best_epoch
    assert same(killed / "model", unbroken.model)


def test_a_training_killed_after_its_last_epoch_still_gives_its_model(
    unbroken: FitResult, make_job: MakeJob, tmp_path: Path
) -> None:
    shutil.copytree(unbroken.model.parent, tmp_path / "job")
    shutil.rmtree(tmp_path / "job" / "model")
    job = make_job(tmp_path / "job", model={"architecture": "plain"}, train=LONG)
    result = fit(job, on_epoch=tell_nobody)
    assert result.history == unbroken.history
    assert same(result.model, unbroken.model)


def test_a_training_goes_on_from_its_last_epoch_even_if_another_was_better(make_job: MakeJob, tmp_path: Path) -> None:
    class Cut(Exception):
        pass

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
        name: fit(make_job(tmp_path / name, train={"epochs": 1, "seed": seed}), on_epoch=tell_nobody).model
        for name, seed in seeds.items()
    }
    assert same(models["one"], models["again"])
    assert not same(models["one"], models["other"])


@pytest.mark.parametrize("epochs", [3, 1])
def test_fit_names_the_setting_to_change_when_it_diverges(make_job: MakeJob, tmp_path: Path, epochs: int) -> None:
    # One epoch of a single batch: only the validation sees what the only step has done.
    settings = {"learning_rate": 1e30, "optimizer": "sgd", "warmup_epochs": 0, "batch_size": 512, "epochs": epochs}
    with pytest.raises(TrainingDiverged, match=r"lower train\.learning_rate \(now 1e\+30\)"):
        fit(make_job(tmp_path, model={"architecture": "plain"}, train=settings), on_epoch=tell_nobody)
    assert not (tmp_path / "model").exists()


def test_training_stops_early_when_nothing_gets_better(make_job: MakeJob, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-12, "epochs": 6, "patience": 1, "monitor": "accuracy", "augment": False}
    result = fit(make_job(tmp_path, train=settings), on_epoch=tell_nobody)
    assert len(result.history) == 2
    assert result.best_epoch == 1


def test_a_training_that_had_stopped_early_is_not_gone_on_with(make_job: MakeJob, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-12, "epochs": 6, "patience": 1, "monitor": "accuracy", "augment": False}
    job = make_job(tmp_path, train=settings)
    stopped = fit(job, on_epoch=tell_nobody)
    shutil.rmtree(stopped.model)
    assert fit(job, on_epoch=tell_nobody).history == stopped.history


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
    said: list[str] = []
    before, after = weights(unbroken.model), weights(fit(job, on_epoch=tell_nobody, say=said.append).model)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert any("model.safetensors" in sentence for sentence in said)


def test_finetuning_starts_from_the_model_and_moves_the_unfrozen_parts_alone(
    unbroken: FitResult, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(tmp_path, step="finetune", start_from=unbroken.model, finetune={"unfreeze_parts": 2})
    result = fit(job, on_epoch=tell_nobody)
    before, after = weights(unbroken.model), weights(result.model)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"classifier.weight", "features.block3.0.weight"} <= changed
    assert all(name.startswith(("classifier", "features.block3")) for name in changed)
    assert result.history[0].epochs == 1


def test_more_parts_than_there_are_can_not_be_unfrozen(unbroken: FitResult, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, step="finetune", start_from=unbroken.model, finetune={"unfreeze_parts": 5})
    with pytest.raises(SettingsError, match=r"finetune\.unfreeze_parts: is 5, but plain has 4 parts"):
        fit(job, on_epoch=tell_nobody)


def test_a_net_with_auxiliary_heads_learns(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, model={"architecture": "googlenet"}, train={"epochs": 1, "batch_size": 64})
    result = fit(job, on_epoch=tell_nobody)
    assert result.history[0].train_loss > 0
    assert not load_classifier(result.model).training


def test_progress_counts_steps_up_to_the_whole(make_job: MakeJob, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    fit(make_job(tmp_path), on_epoch=tell_nobody, on_step=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} == {len(steps)}
