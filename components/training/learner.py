"""The training and validation steps as a LightningModule.

Shapes: B images of a batch, T logits.
"""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, MetricCollection

from components.data.packed.loaders import Batch
from components.models.classifier import ImageClassifier
from components.models.layer_groups import freeze_batch_norms
from components.records.training_plan import TrainingPlan
from components.shared.errors import TrainingDiverged
from components.training.losses import image_losses
from components.training.objective import Objective
from components.training.optimizers import new_optimizer
from components.training.progressive_resizing import shrink
from components.training.schedules import new_plateau, new_scheduler
from components.training.settings import TrainingJob
from components.training.weight_averaging import MovingAverage

_CHECK_EVERY = 50
"""Steps between checks of the loss on a GPU, where each makes the processor wait for it."""
_LONGEST_WARMUP = 0.5
"""Fraction of all steps: a training of warm-up alone would end at its highest rate."""


class Learner(pl.LightningModule):
    def __init__(self, model: ImageClassifier, job: TrainingJob, plan: TrainingPlan, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.job = job
        self.plan = plan
        self.task = model.spec.labels
        self.task.check_level_weights(job.model.level_weights)
        self.average = MovingAverage(model, job.train.ema_decay) if job.train.ema_decay else None
        self.val_loss = MeanMetric()
        self.val_scores = MetricCollection(self.task.validation_metrics(), prefix="val_")
        self._objective = objective
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        # No buffer, for DDP would overwrite it with the first process's own.
        self._loss_and_images = torch.zeros(2, dtype=torch.float64)

    @property
    def validated_model(self) -> ImageClassifier:
        """The model that is validated and stored: the EMA of the weights, where there is one."""
        averaged: ImageClassifier = self.average.module if self.average is not None else self.model  # type: ignore[assignment]
        return averaged

    def on_train_start(self) -> None:
        # A stored model is loaded in evaluation mode, and a resumed epoch has no start of its own.
        self.model.train()
        freeze_batch_norms(self.model, every=self.job.freezes_statistics)
        self._loss_and_images = self._loss_and_images.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # A resumed epoch continues the sum: each process with an equal fraction of it.
        checkpoint["loss_and_images"] = self.all_gather(self._loss_and_images).view(-1, 2).mean(dim=0)
        checkpoint["plateau"] = None if self._plateau is None else self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._loss_and_images = checkpoint["loss_and_images"].to(self.device)
        self._plateau_state = checkpoint["plateau"]

    def on_train_epoch_start(self) -> None:
        self._loss_and_images = torch.zeros(2, dtype=torch.float64, device=self.device)

    def training_step(self, batch: Batch, number: int) -> Tensor:
        loss = self._objective(
            self.model, batch, number=self.trainer.fit_loop.total_batch_idx, epoch=self.current_epoch
        )
        if self.device.type == "cpu" or number % _CHECK_EVERY == 0:
            self._refuse_divergence("loss", loss)
        images = len(batch.target)
        self._loss_and_images += torch.stack([loss.detach() * images, loss.new_tensor(images)])
        return loss

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        super().optimizer_step(*arguments, **named)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def mean_train_loss(self) -> float:
        """Mean training loss over the epoch's images, of all processes."""
        total = self.all_gather(self._loss_and_images).view(-1, 2).sum(dim=0)
        return float(total[0] / total[1])

    def on_validation_epoch_start(self) -> None:
        self.validated_model.eval()

    def validation_step(self, batch: Batch, _: int) -> None:
        if not len(batch.target):
            return
        # At another size than it trains at, its batch-norm statistics are off, and chance would choose the best epoch.
        logits_BT = self.validated_model(shrink(batch.images_BHWC, self.job.side_px)).float()
        # Class weights are for training: validation counts the images as they are.
        loss_B = image_losses(logits_BT, batch.target, self.task, level_weights=self.job.model.level_weights)
        self.val_loss.update(loss_B.mean(), weight=len(loss_B))
        self.val_scores.update(self.task.metric_inputs(logits_BT), batch.target)

    def on_validation_epoch_end(self) -> None:
        val_loss = self.val_loss.compute()
        # The training loss doesn't see what the last step did.
        self._refuse_divergence("validation loss", val_loss)
        self.log("val_loss", val_loss)
        self.log_dict(self.val_scores.compute())
        self.val_loss.reset()
        self.val_scores.reset()
        if self._plateau is not None:
            self._plateau.step(float(val_loss))

    def configure_optimizers(self) -> Any:
        settings = self.job.train
        # Lightning unscales fp16 gradients before it clips them, which a fused optimizer would do again.
        optimizer = new_optimizer(
            self.model.net,
            self.job,
            learning_rate=self.plan.learning_rate,
            fused=self.plan.fused and self.plan.precision != "fp16",
        )
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = round(steps * min(_LONGEST_WARMUP, settings.warmup_epochs / self.job.epochs))
        scheduler = new_scheduler(optimizer, self.job.schedule, steps=steps, warmup=warmup, cycles=settings.cycles)
        if self.job.schedule == "plateau":
            self._plateau = new_plateau(optimizer, settings.plateau_patience)
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _refuse_divergence(self, name: str, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"{name} is {loss.item()} in epoch {self.current_epoch + 1}; "
                f"lower {self.job.section}.learning_rate (now {self.plan.learning_rate:g})"
            )
