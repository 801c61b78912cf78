"""Lightning callbacks: checkpoints, early stopping, time limit, and the report of each epoch."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint

from components.data.packed.loaders import Batch
from components.models.classifier import save_classifier
from components.shared.files import read_json, write_json
from components.training.checkpoints import read_checkpoint
from components.training.epoch_report import SCORES, EpochReport
from components.training.resume import Fingerprint, refuse_other_fingerprint
from components.training.schedules import cycle_ends

logger = logging.getLogger(__name__)

LAST = "last.safetensors"
_BEST = "best"
_AGREE_EVERY = 10
"""Batches between agreements among several processes, each of which makes a GPU wait."""
_FINGERPRINT = "darkroom"


def mode_of(monitor: str) -> str:
    """Whether a smaller or larger score is better, as Lightning spells it."""
    return "min" if monitor == "loss" else "max"


def best_checkpoint(folder: Path, monitor: str) -> ModelCheckpoint:
    """A callback that saves the epoch with the best validation score."""
    callback = ModelCheckpoint(
        dirpath=folder,
        filename=_BEST,
        monitor=f"val_{monitor}",
        mode=mode_of(monitor),
        save_top_k=1,
        enable_version_counter=False,
    )
    callback.FILE_EXTENSION = ".safetensors"
    return callback


class LastCheckpoint(Checkpoint):
    """Saves the latest state atomically: after each epoch, and within one every few minutes."""

    def __init__(self, folder: Path, *, minutes: float, fingerprint: Fingerprint) -> None:
        self.path = folder / LAST
        self._seconds = 60 * minutes
        self._fingerprint = fingerprint
        self._saved = time.monotonic()

    def resume_path(self) -> Path | None:
        """The checkpoint to resume from, if there is one; half-written files of a killed run are removed."""
        for temporary in self.path.parent.glob(".*.safetensors.*"):
            temporary.unlink()
        if not self.path.exists():
            return None
        refuse_other_fingerprint(read_checkpoint(self.path)[_FINGERPRINT], self._fingerprint, self.path.parents[1])
        return self.path

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[_FINGERPRINT] = self._fingerprint

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Gradients that are still being accumulated are in no checkpoint, and the end of an epoch has one of its own.
        loop = trainer.fit_loop.epoch_loop
        if not self._seconds or loop._should_accumulate() or loop.batch_progress.is_last_batch:
            return
        if self._is_due(trainer, loop.batch_progress.current.ready):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _is_due(self, trainer: pl.Trainer, batches: int) -> bool:
        """Whether a checkpoint is due. All processes take part in it, so they agree: their clocks differ."""
        if trainer.world_size > 1 and batches % _AGREE_EVERY:
            return False
        due = time.monotonic() - self._saved >= self._seconds
        return bool(trainer.strategy.reduce_boolean_decision(due, all=False))

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()


class BestCheckpoints(ModelCheckpoint):
    """Saves the few best epochs, from which a model soup is made."""

    FILE_EXTENSION = ".safetensors"

    def __init__(self, folder: Path, monitor: str, count: int) -> None:
        super().__init__(
            dirpath=folder,
            filename="soup-{epoch:03d}",
            monitor=f"val_{monitor}",
            mode=mode_of(monitor),
            save_top_k=count,
            enable_version_counter=False,
        )

    def best_first(self) -> list[Path]:
        """Files of the saved epochs, the best one first."""
        sign = 1 if self.mode == "min" else -1
        return [Path(path) for path, _ in sorted(self.best_k_models.items(), key=lambda item: sign * float(item[1]))]


class CycleSnapshots(Callback):
    """Saves the model at the end of each cycle of a cyclic schedule, as a member of an ensemble."""

    def __init__(self, folder: Path, cycles: int) -> None:
        self._folder, self._cycles = folder, cycles

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        ends, step = cycle_ends(int(trainer.estimated_stepping_batches), self._cycles), trainer.global_step
        if step in ends and not trainer.fit_loop.epoch_loop._should_accumulate() and trainer.is_global_zero:
            save_classifier(pl_module.validated_model, self._folder / f"{ends.index(step) + 1:02d}")


class TimeLimit(Callback):
    """Ends the training after some minutes, counted over all its resumed runs."""

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self._before, self._since = 0.0, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._spent()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = state_dict["seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.monotonic()
        trainer.should_stop = trainer.should_stop or self._is_over(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.should_stop and self._is_over(trainer):
            logger.info(
                f"stopped in epoch {trainer.current_epoch + 1}, after {self._spent() / 60:.1f} minutes: "
                f"train.time_limit_minutes is {self._seconds / 60:g}"
            )
            trainer.should_stop = True

    def _is_over(self, trainer: pl.Trainer) -> bool:
        # All processes stop together.
        return bool(trainer.strategy.reduce_boolean_decision(self._spent() >= self._seconds, all=False))

    def _spent(self) -> float:
        return self._before + time.monotonic() - self._since


class Patience(EarlyStopping):
    """Ends the training when a score hasn't improved for some epochs."""

    def __init__(self, score: str, patience: int) -> None:
        super().__init__(monitor=f"val_{score}", mode=mode_of(score), patience=patience)
        self._score = score

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps a training that had stopped from being resumed."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if 0 < self.stopped_epoch < trainer.max_epochs - 1:
            logger.info(
                f"stopped after epoch {self.stopped_epoch + 1}: validation {self._score} didn't improve for "
                f"train.patience ({self.patience}) epochs"
            )


class EpochReporter(Callback):
    """Reports each epoch, and keeps the history in a file so that a resumed run has all of it."""

    def __init__(
        self,
        file: Path,
        epochs: int,
        on_epoch: Callable[[EpochReport], None],
        on_step: Callable[[int, int], None],
    ) -> None:
        self._file, self._epochs = file, epochs
        self._on_epoch, self._on_step = on_epoch, on_step
        self._seconds, self._images, self._since, self._steps = 0.0, 0, 0.0, 0
        self._training_seconds = 0.0
        # Read here because Lightning calls no hook where all epochs are done.
        self.history = [EpochReport(**report) for report in read_json(file)] if file.exists() else []

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._spent(), "images": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds, self._images = state_dict["seconds"], state_dict["images"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # An epoch whose checkpoint was never finished is trained and reported again.
        self.history = self.history[: trainer.current_epoch]
        self._steps = int(trainer.estimated_stepping_batches)
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds, self._images, self._since = 0.0, 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._images += len(batch.target)
        self._on_step(trainer.global_step, self._steps)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training_seconds = self._spent()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = self._spent()
        done = trainer.current_epoch + 1
        rates = [float(group["lr"]) for group in trainer.optimizers[0].param_groups]
        report = EpochReport(
            epoch=done,
            epochs=self._epochs,
            train_loss=pl_module.mean_train_loss(),
            **{name: float(trainer.callback_metrics[name]) for name in SCORES},
            learning_rate=rates[-1],
            learning_rates=rates,
            seconds=seconds,
            images_per_second=self._images * trainer.world_size / self._training_seconds,
            seconds_left=seconds * (self._epochs - done),
            gpu_memory_gib=torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
        )
        self.history.append(report)
        if trainer.is_global_zero:
            write_json(self._file, [asdict(entry) for entry in self.history])
            self._on_epoch(report)

    def _spent(self) -> float:
        """Seconds of this epoch, over all its resumed runs."""
        return self._seconds + time.perf_counter() - self._since
