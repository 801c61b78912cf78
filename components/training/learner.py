"""One training and validation step, as Lightning sees them.

Letters: B images of a batch, T logits.
"""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from components.data.loading import Batch
from components.errors import TrainingDiverged
from components.models.classifier import ImageClassifier
from components.models.parts import keep_frozen_statistics, parameter_groups
from components.training.losses import check_level_weights, classification_loss, image_losses
from components.training.scores import for_scores, validation_scores
from components.training.settings import TrainingJob

_AUXILIARY_WEIGHT = 0.3
"""Weight of GoogLeNet's and Inception's auxiliary losses (Szegedy et al. 2014, section 5)."""


class Learner(pl.LightningModule):
    def __init__(self, model: ImageClassifier, job: TrainingJob) -> None:
        super().__init__()
        self.model = model
        self.job = job
        self.space = model.spec.labels
        check_level_weights(self.space, job.model.level_weights)
        self.train_loss = MeanMetric()
        # Kept in checkpoints, for an epoch that is cut off goes on with it.
        self.train_loss.persistent(True)
        self.val_loss = MeanMetric()
        self.val_scores = validation_scores(self.space)

    def on_train_start(self) -> None:
        # A stored model comes in evaluation mode, and an epoch that is gone on with has no start of its own.
        self.model.train()
        keep_frozen_statistics(self.model)

    def on_train_epoch_start(self) -> None:
        self.train_loss.reset()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        # Dropout draws by seed and batch alone, so that a resumed run goes on as an unbroken one would.
        torch.manual_seed((self.job.train.seed << 32) + self.trainer.fit_loop.total_batch_idx)
        loss = self._loss(self.model(batch.images_BHWC), batch)
        self._refuse_divergence("loss", loss)
        self.train_loss.update(loss.detach(), weight=len(batch.target))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        logits_BT = self.model(batch.images_BHWC)
        # Weights are for learning: what validation says is of the images as they are.
        loss_B = image_losses(logits_BT, batch.target, self.space, level_weights=self.job.model.level_weights)
        self.val_loss.update(loss_B.mean(), weight=len(loss_B))
        self.val_scores.update(for_scores(logits_BT, self.space), batch.target)

    def on_validation_epoch_end(self) -> None:
        val_loss = self.val_loss.compute()
        # The training loss doesn't see what the last step did.
        self._refuse_divergence("validation loss", val_loss)
        self.log("val_loss", val_loss)
        self.log_dict(self.val_scores.compute())
        self.val_loss.reset()
        self.val_scores.reset()

    def configure_optimizers(self) -> Any:
        settings = self.job.train
        groups = parameter_groups(
            self.model.net,
            learning_rate=self.job.learning_rate,
            weight_decay=settings.weight_decay,
            part_decay=self.job.part_decay,
        )
        optimizer: torch.optim.Optimizer
        if settings.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=self.job.learning_rate, momentum=0.9, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=self.job.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = round(steps * min(1.0, settings.warmup_epochs / self.job.epochs))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, WarmupCosine(steps, warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _refuse_divergence(self, name: str, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"{name} is {loss.item()} in epoch {self.current_epoch + 1}; "
                f"lower {self.job.step}.learning_rate (now {self.job.learning_rate:g})"
            )

    def _loss(self, output: Any, batch: Batch) -> Tensor:
        main, *auxiliary = output if isinstance(output, tuple) else (output,)
        levels = self.job.model.level_weights
        loss = classification_loss(
            main, batch, self.space, label_smoothing=self.job.train.label_smoothing, level_weights=levels
        )
        for logits_BT in auxiliary:
            if logits_BT is not None:
                loss = loss + _AUXILIARY_WEIGHT * classification_loss(
                    logits_BT, batch, self.space, level_weights=levels
                )
        return loss


class WarmupCosine:
    """Share of the peak rate at each step: a straight climb, then half a cosine (Loshchilov and Hutter 2017)."""

    def __init__(self, steps: int, warmup: int) -> None:
        self.steps, self.warmup = steps, warmup

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
