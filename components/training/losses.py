"""Training losses.

Shapes: B images of a batch, T logits, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from components.task.task import Task

LossKind = Literal["cross_entropy", "focal", "binary_cross_entropy"]


@dataclass(frozen=True)
class Loss:
    """The loss function of the settings, in nats.

    cross_entropy: of the softmax, or binary for multi-label. focal: the same times (1 − p)^γ, where p is
    the probability of the true label (Lin et al. 2017). binary_cross_entropy: the mean over the classes, each against
    the rest.
    """

    kind: LossKind = "cross_entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0

    def categorical(self, logits_BK: Tensor, target_B: Tensor) -> Tensor:
        """Loss of each image [B]."""
        if self.kind == "binary_cross_entropy":
            hot_BK = F.one_hot(target_B, logits_BK.shape[1])
            return self.binary(logits_BK, hot_BK).mean(dim=1)
        loss_B = F.cross_entropy(logits_BK, target_B, label_smoothing=self.label_smoothing, reduction="none")
        if self.kind == "cross_entropy":
            return loss_B
        truth_B = logits_BK.softmax(dim=1).gather(1, target_B[:, None])[:, 0]
        return (1 - truth_B) ** self.focal_gamma * loss_B

    def binary(self, logits_BK: Tensor, truth_BK: Tensor, class_weight_K: Tensor | None = None) -> Tensor:
        """Loss of each label [B, K]; smoothing moves targets towards one half."""
        truth_BK = truth_BK.to(logits_BK.dtype)
        smoothed_BK = truth_BK * (1 - self.label_smoothing) + self.label_smoothing / 2
        loss_BK = F.binary_cross_entropy_with_logits(logits_BK, smoothed_BK, reduction="none")
        if self.kind == "focal" and self.focal_gamma:
            probability_BK = logits_BK.sigmoid()
            wrong_BK = truth_BK * (1 - probability_BK) + (1 - truth_BK) * probability_BK
            loss_BK = loss_BK * wrong_BK**self.focal_gamma
        if class_weight_K is not None:
            loss_BK = loss_BK * torch.where(truth_BK > 0, class_weight_K, 1.0)
        return loss_BK


def image_losses(
    logits_BT: Tensor,
    target: Tensor,
    task: Task,
    *,
    kind: LossKind = "cross_entropy",
    focal_gamma: float = 2.0,
    label_smoothing: float = 0.0,
    level_weights: Sequence[float] | None = None,
    class_weight_K: Tensor | None = None,
) -> Tensor:
    """Each image's loss [B], in nats; for a hierarchy the weighted sum over its levels.

    A class weight applies to the images of the class; in multi-label tasks, to those that have the label.
    """
    loss = Loss(kind, focal_gamma, label_smoothing)
    loss_B: Tensor = task.image_losses(
        logits_BT, target, loss, level_weights=level_weights, class_weight_K=class_weight_K
    )
    return loss_B


def chance_logits(task: Task) -> Tensor:
    """Logits [T] of a model that knows nothing: each class, of every level, is as likely as another, and each label as
    likely as not, in softmax and sigmoid alike."""
    logits_T = torch.zeros(task.num_logits)

    def spread(head: slice) -> None:
        logits_T[head] = -math.log(max(1, len(logits_T[head]) - 1))

    task.over_heads(softmax=spread, sigmoid=lambda _: None)
    return logits_T
