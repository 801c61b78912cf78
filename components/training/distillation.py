"""Distillation, learning from a teacher's predictions beside the labels: Hinton et al. 2015, "Distilling the Knowledge
in a Neural Network".

Shapes: B images, H height, W width, C channels, T logits.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from components.models.classifier import ImageClassifier
from components.models.ensemble import open_model
from components.shared.errors import SettingsError
from components.task.task import Task
from components.training.progressive_resizing import shrink


class Teacher:
    """A trained classifier or ensemble in evaluation mode, without gradients."""

    def __init__(self, model: ImageClassifier) -> None:
        self._model = model.eval().requires_grad_(False)
        self.task = model.spec.labels

    @torch.no_grad()
    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """Logits [B, T] of images that may be mixed or of another size than the teacher's own."""
        self._model.to(images_BHWC.device)
        logits_BT: Tensor = self._model(shrink(images_BHWC, self._model.spec.preprocess.image_size_px))
        return logits_BT


def open_teacher(folder: Path, task: Task) -> Teacher:
    """The stored model as a teacher. Raises SettingsError where its labels aren't those of the data."""
    teacher = Teacher(open_model(folder))
    if teacher.task != task:
        raise SettingsError(
            f"params.yaml: train.teacher: {teacher.task.difference_from(task)}; name a teacher of the same labels"
        )
    return teacher


def distillation_loss(student_BT: Tensor, teacher_BT: Tensor, task: Task, *, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the softened predictions from the teacher's, in nats, mean over the images.

    Times the temperature's square, so that its gradients keep their size (section 2 of the paper). Multi-label: the
    mean over the labels; hierarchy: the sum over the levels.
    """

    def binary(head: slice) -> Tensor:
        target_BK = (teacher_BT[:, head] / temperature).sigmoid()
        entropy = F.binary_cross_entropy(target_BK, target_BK)
        return F.binary_cross_entropy_with_logits(student_BT[:, head] / temperature, target_BK) - entropy

    def categorical(head: slice) -> Tensor:
        return F.kl_div(
            (student_BT[:, head] / temperature).log_softmax(dim=1),
            (teacher_BT[:, head] / temperature).log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )

    return temperature**2 * torch.stack(task.over_heads(softmax=categorical, sigmoid=binary)).sum()
