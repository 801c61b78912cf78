"""Training from a job to a model, resumed where it was cut off; reports each epoch to whoever asks."""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from components.data.loading import evaluation_loader, open_part, training_loader
from components.data.packing import read_dataset
from components.errors import SettingsError
from components.files import read_json, write_json
from components.models.classifier import (
    ImageClassifier,
    load_classifier,
    new_classifier,
    save_classifier,
)
from components.models.parts import freeze_backbone, parts, unfreeze_last
from components.training.checkpoints import SafetensorsCheckpoints, read_checkpoint
from components.training.learner import Learner
from components.training.settings import TrainingJob

MODEL = "model"
HISTORY = "history.json"
_CHECKPOINTS = "checkpoints"
_LAST = "last.safetensors"


@dataclass(frozen=True)
class EpochReport:
    epoch: int
    """Counted from 1."""
    epochs: int
    train_loss: float
    """Mean cross-entropy over the epoch's images, in nats."""
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    learning_rate: float
    """Of the head, at the end of the epoch."""
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class FitResult:
    model: Path
    """Folder of the model from the best epoch."""
    history: list[EpochReport]
    best_epoch: int


def fit(
    job: TrainingJob,
    *,
    on_epoch: Callable[[EpochReport], None],
    on_step: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> FitResult:
    """Trains, or goes on from the last epoch that was finished in the job's folder."""
    _quieten()
    pl.seed_everything(job.train.seed, verbose=False)
    output = Path(job.output)
    learner = Learner(_model(job, say), job)
    best = _checkpoint(output / _CHECKPOINTS, "best", job.train.monitor)
    latest = _checkpoint(output / _CHECKPOINTS, "last", None)
    reporter = _Reporter(output / HISTORY, job.epochs, on_epoch, on_step)
    # The last one saves last, for it keeps what the others know.
    trainer = _trainer(job, [reporter, *_early_stopping(job), best, latest])
    last = output / _CHECKPOINTS / _LAST
    if last.exists():
        say(f"going on from the last finished epoch in {job.step}")
    part = open_part(Path(job.data), "train")
    try:
        trainer.fit(
            learner,
            training_loader(
                part,
                batch_size=job.train.batch_size,
                seed=job.train.seed,
                augment=job.augment if job.train.augment else None,
                workers=job.train.loader_workers,
            ),
            evaluation_loader(open_part(Path(job.data), "val"), batch_size=job.train.batch_size),
            ckpt_path=str(last) if last.exists() else None,
        )
    except torch.OutOfMemoryError:
        raise SettingsError(
            f"the device has too little memory; lower train.batch_size (now {job.train.batch_size})"
        ) from None
    _restore(learner, Path(best.best_model_path))
    save_classifier(learner.model, output / MODEL)
    history = reporter.history
    return FitResult(output / MODEL, history, _best_epoch(history, job.train.monitor))


def _model(job: TrainingJob, say: Callable[[str], None]) -> ImageClassifier:
    dataset = read_dataset(Path(job.data))
    if job.start_from is not None:
        model = load_classifier(Path(job.start_from))
    else:
        model, loaded = new_classifier(
            job.model, classes=dataset.classes, preprocess=job.preprocess, mean=dataset.mean, std=dataset.std
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


def _checkpoint(folder: Path, name: str, monitor: str | None) -> ModelCheckpoint:
    """Keeps the epoch with the best score, or simply the newest one: Lightning's own `last` skips what isn't better."""
    callback = ModelCheckpoint(
        dirpath=folder,
        filename=name,
        monitor=f"val_{monitor}" if monitor else None,
        mode=_mode(monitor) if monitor else "min",
        save_top_k=1,
        enable_version_counter=False,
    )
    callback.FILE_EXTENSION = ".safetensors"
    return callback


def _early_stopping(job: TrainingJob) -> list[Callback]:
    if not job.train.patience:
        return []
    monitor = job.train.monitor
    return [_Patience(monitor=f"val_{monitor}", mode=_mode(monitor), patience=job.train.patience)]


class _Patience(EarlyStopping):
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that had stopped when it was cut off is not gone on with."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _mode(monitor: str) -> str:
    return "min" if monitor == "loss" else "max"


def _best_epoch(history: list[EpochReport], monitor: str) -> int:
    sign = -1 if _mode(monitor) == "min" else 1
    return max(history, key=lambda report: sign * getattr(report, f"val_{monitor}")).epoch


def _restore(learner: Learner, checkpoint: Path) -> None:
    learner.load_state_dict(read_checkpoint(checkpoint)["state_dict"])


class _Reporter(Callback):
    """Keeps the history in a file, so that a resumed run has all of it, and tells of each epoch."""

    def __init__(
        self,
        file: Path,
        epochs: int,
        on_epoch: Callable[[EpochReport], None],
        on_step: Callable[[int, int], None],
    ) -> None:
        self._file, self._epochs = file, epochs
        self._on_epoch, self._on_step = on_epoch, on_step
        self._started, self._images = 0.0, 0
        # Read here, for Lightning calls no hook where all epochs are done.
        self.history = [EpochReport(**report) for report in read_json(file)] if file.exists() else []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # An epoch whose checkpoint was never finished is trained again, and so reported again.
        self.history = self.history[: trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._images = time.perf_counter(), 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        batch = _[2]
        self._images += len(batch[1])
        self._on_step(trainer.global_step, int(trainer.estimated_stepping_batches))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self._started
        scores = {name: float(trainer.callback_metrics[name]) for name in ("val_loss", "val_accuracy", "val_macro_f1")}
        report = EpochReport(
            epoch=trainer.current_epoch + 1,
            epochs=self._epochs,
            train_loss=float(pl_module.train_loss.compute()),
            learning_rate=float(trainer.optimizers[0].param_groups[-1]["lr"]),
            seconds=seconds,
            images_per_second=self._images / seconds,
            **scores,
        )
        self.history.append(report)
        write_json(self._file, [asdict(entry) for entry in self.history])
        self._on_epoch(report)


def _quieten() -> None:
    """Lightning's own notices (no GPU, few workers) are not for the user of a pipeline."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
