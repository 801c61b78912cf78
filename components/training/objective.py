"""The loss of a training batch, whose images are resized and mixed as the settings say.

A function of the weights, the batch and its number alone, so that a step can be repeated to the bit.

Shapes: B images, H height, W width, C channels, K classes, T logits.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.data.packed.loaders import Batch
from components.task.task import Task
from components.training.distillation import Teacher, distillation_loss
from components.training.losses import chance_logits, image_losses
from components.training.mixup import mix
from components.training.progressive_resizing import shrink, side_at
from components.training.settings import TrainingJob

_AUXILIARY_WEIGHT = 0.3
"""Weight of GoogLeNet's and Inception's auxiliary losses (Szegedy et al. 2014, section 5)."""

_CHANCE_IMAGES = 1024
"""Images, evenly spaced in the split, by which the loss at chance level is estimated."""


class Objective:
    """The loss of a training batch by the settings of a job."""

    def __init__(
        self,
        job: TrainingJob,
        task: Task,
        class_weight_K: NDArray[np.float32] | None,
        teacher: Teacher | None = None,
    ) -> None:
        self._settings = job.train
        self._side = partial(side_at, epochs=job.epochs, full_px=job.side_px, start=job.progressive_resizing)
        self._class_weight_K = None if class_weight_K is None else torch.from_numpy(class_weight_K)
        self._teacher, self._task = teacher, task
        self._loss = partial(
            image_losses,
            task=task,
            kind=job.train.loss,
            focal_gamma=job.train.focal_gamma,
            label_smoothing=job.train.label_smoothing,
            level_weights=job.model.level_weights,
        )

    def __call__(self, model: nn.Module, batch: Batch, *, number: int, epoch: int) -> Tensor:
        """Mean loss of the batch's images, in nats; `number` counts batches from the start of the training."""
        _seed((self._settings.seed << 32) + number, batch.images_BHWC.device)
        mixed = mix(
            shrink(batch.images_BHWC, self._side(epoch)),
            mixup=self._settings.mixup,
            cutmix=self._settings.cutmix,
            random_erasing=self._settings.random_erasing,
            random=np.random.default_rng([self._settings.seed, number]),
        )
        main, *auxiliary = _as_tuple(model(mixed.images_BHWC))
        loss = self._mixed(main, batch, mixed.partner_B, mixed.own_weight)
        if self._teacher is not None:
            loss = self._distilled(loss, main, self._teacher(mixed.images_BHWC))
        for logits_BT in auxiliary:
            if logits_BT is not None:
                loss = loss + _AUXILIARY_WEIGHT * self._mixed(logits_BT, batch, mixed.partner_B, mixed.own_weight)
        return loss

    def chance_loss(self, target: NDArray[Any], weight_N: NDArray[np.float32]) -> float:
        """The labels' term of the loss at chance level, in nats."""
        some = np.linspace(0, len(target) - 1, min(len(target), _CHANCE_IMAGES), dtype=int)
        logits_NT = chance_logits(self._task).expand(len(some), -1)
        loss = self._mean(logits_NT, torch.from_numpy(target[some]), torch.from_numpy(weight_N[some]))
        return float(loss) * (1.0 if self._teacher is None else 1 - self._settings.teacher_weight)

    def _distilled(self, loss: Tensor, student_BT: Tensor, teacher_BT: Tensor) -> Tensor:
        settings = self._settings
        divergence = distillation_loss(student_BT, teacher_BT, self._task, temperature=settings.teacher_temperature)
        return (1 - settings.teacher_weight) * loss + settings.teacher_weight * divergence

    def _mixed(self, logits_BT: Tensor, batch: Batch, partner_B: Tensor | None, own_weight: float) -> Tensor:
        own = self._mean(logits_BT, batch.target, batch.weight_B)
        if partner_B is None:
            return own
        partners = self._mean(logits_BT, batch.target[partner_B], batch.weight_B[partner_B])
        return own_weight * own + (1 - own_weight) * partners

    def _mean(self, logits_BT: Tensor, target: Tensor, weight_B: Tensor) -> Tensor:
        weight_K = None if self._class_weight_K is None else self._class_weight_K.to(logits_BT.device)
        return (weight_B * self._loss(logits_BT, target, class_weight_K=weight_K)).mean()


def _seed(seed: int, device: torch.device) -> None:
    """Makes dropout and mixing depend on seed and batch alone.

    Not by `torch.manual_seed`, which also records a traceback for each type of device that is absent.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _as_tuple(output: Any) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)
