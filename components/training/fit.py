"""Training from a job to a model, resumed where it was cut off; reports each epoch to whoever asks."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from components.data.loading import Batch, evaluation_loader, open_part, training_loader
from components.data.packing import read_dataset
from components.errors import SettingsError
from components.models.classifier import (
    ImageClassifier,
    load_classifier,
    new_classifier,
    save_classifier,
)
from components.models.parts import freeze_backbone, parts, unfreeze_last
from components.training.callbacks import KeepLast, Patience, Reporter, best_checkpoint, mode_of
from components.training.checkpoints import SafetensorsCheckpoints, read_checkpoint
from components.training.learner import Learner
from components.training.reports import EpochReport, FitResult
from components.training.resuming import ResumableBatches, identity_of
from components.training.settings import TrainingJob

MODEL = "model"
HISTORY = "history.json"
_CHECKPOINTS = "checkpoints"


def fit(
    job: TrainingJob,
    *,
    on_epoch: Callable[[EpochReport], None],
    on_step: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> FitResult:
    """Trains, or goes on from where the job was cut off, to the same weights as an unbroken run on a CPU.

    Raises SettingsError where the job's folder holds a checkpoint of other data or settings.
    """
    _quieten()
    pl.seed_everything(job.train.seed, verbose=False)
    output = Path(job.output)
    learner = Learner(_model(job, say), job)
    best = best_checkpoint(output / _CHECKPOINTS, job.train.monitor)
    last = KeepLast(output / _CHECKPOINTS, minutes=job.train.checkpoint_minutes, identity=identity_of(job))
    reporter = Reporter(output / HISTORY, job.epochs, on_epoch, on_step)
    # The last one saves last, for it keeps what the others know.
    trainer = _trainer(job, [reporter, *_early_stopping(job), best, last])
    start = last.where_to_go_on()
    if start is not None:
        say(f"going on from the last checkpoint in {job.step}")
    try:
        trainer.fit(learner, _training_batches(job, trainer), _validation_batches(job), ckpt_path=start)
    except torch.OutOfMemoryError:
        raise SettingsError(
            f"the device has too little memory; lower train.batch_size (now {job.train.batch_size})"
        ) from None
    _restore(learner, Path(best.best_model_path))
    save_classifier(learner.model, output / MODEL)
    history = reporter.history
    return FitResult(output / MODEL, history, _best_epoch(history, job.train.monitor))


def _training_batches(job: TrainingJob, trainer: pl.Trainer) -> ResumableBatches:
    loader = training_loader(
        open_part(Path(job.data), "train"),
        batch_size=job.train.batch_size,
        seed=job.train.seed,
        augment=job.augment if job.train.augment else None,
        workers=job.train.loader_workers,
    )
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return ResumableBatches(loader, lambda: (trainer.current_epoch, progress.ready))


def _validation_batches(job: TrainingJob) -> DataLoader[Batch]:
    return evaluation_loader(open_part(Path(job.data), "val"), batch_size=job.train.batch_size)


def _model(job: TrainingJob, say: Callable[[str], None]) -> ImageClassifier:
    dataset = read_dataset(Path(job.data))
    if job.start_from is not None:
        model = load_classifier(Path(job.start_from))
    else:
        model, loaded = new_classifier(
            job.model, labels=dataset.labels, preprocess=job.preprocess, mean=dataset.mean, std=dataset.std
        )
        if loaded is not None:
            say(f"weights from {loaded.source}" + (", with a new head" if loaded.new_head else ""))
    if job.step == "train" and job.model.freeze_backbone:
        freeze_backbone(model.net)
    if job.step == "finetune":
        _unfreeze(model, job)
    return model


def _unfreeze(model: ImageClassifier, job: TrainingJob) -> None:
    existing = len(parts(model.net))
    count = job.finetune.unfreeze_parts or existing
    if count > existing:
        raise SettingsError(
            f"params.yaml: finetune.unfreeze_parts: is {count}, but {model.spec.architecture} has {existing} parts"
        )
    unfreeze_last(model.net, count)
    if count == existing:
        model.net.requires_grad_(True)


def _trainer(job: TrainingJob, callbacks: list[Callback]) -> pl.Trainer:
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=job.epochs,
        deterministic="warn",
        callbacks=callbacks,
        plugins=[SafetensorsCheckpoints()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=job.output,
    )


def _early_stopping(job: TrainingJob) -> list[Callback]:
    if not job.train.patience:
        return []
    monitor = job.train.monitor
    return [Patience(monitor=f"val_{monitor}", mode=mode_of(monitor), patience=job.train.patience)]


def _best_epoch(history: list[EpochReport], monitor: str) -> int:
    sign = -1 if mode_of(monitor) == "min" else 1
    return max(history, key=lambda report: sign * getattr(report, f"val_{monitor}")).epoch


def _restore(learner: Learner, checkpoint: Path) -> None:
    learner.load_state_dict(read_checkpoint(checkpoint)["state_dict"])


def _quieten() -> None:
    """Lightning's own notices (no GPU, few workers) are not for the user of a pipeline."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
