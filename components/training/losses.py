"""What training lowers, for each kind of labels.

Letters: B images of a batch, T logits, K classes.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from components.models.heads import ancestors
from components.shared.errors import SettingsError
from components.task.label_space import LabelSpace

LossKind = Literal["cross_entropy", "focal", "binary_cross_entropy"]


def image_losses(
    logits_BT: Tensor,
    target: Tensor,
    space: LabelSpace,
    *,
    kind: LossKind = "cross_entropy",
    focal_gamma: float = 2.0,
    label_smoothing: float = 0.0,
    level_weights: Sequence[float] | None = None,
    class_weight_K: Tensor | None = None,
) -> Tensor:
    """Each image's loss [B], in nats; of a hierarchy its sum over the levels, by their weights.

    cross_entropy: of the softmax; of a set of labels the mean of its labels' binary ones. focal: the same times
    (1 − p)^γ, where p is the probability of the truth (Lin et al. 2017). binary_cross_entropy: the mean over the
    classes, each against the rest. A class weighs its images, of a set the images that carry the label.
    """
    if space.kind == "multi":
        gamma = focal_gamma if kind == "focal" else 0.0
        return _binary(logits_BT, target, label_smoothing, gamma, class_weight_K).mean(dim=1)
    if space.kind == "single":
        loss_B = _single(logits_BT, target, kind, focal_gamma, label_smoothing)
    else:
        loss_B = logits_BT.new_zeros(len(logits_BT))
        weights = level_weights or [1.0] * len(space.levels)
        for ancestor_K, place, weight in zip(
            ancestors(space, logits_BT.device), space.level_slices(), weights, strict=True
        ):
            level_B = _single(logits_BT[:, place], ancestor_K[target], kind, focal_gamma, label_smoothing)
            loss_B = loss_B + weight * level_B
    return loss_B if class_weight_K is None else class_weight_K[target] * loss_B


def guess(space: LabelSpace) -> Tensor:
    """Logits [T] of one who knows nothing: each class, of every level, as likely as another, and each label of a set as
    likely as not, in softmax and sigmoid alike."""
    if space.kind == "multi":
        return torch.zeros(space.num_logits)
    counts = [len(level.classes) for level in space.levels] or [len(space.classes)]
    return torch.cat([torch.full((count,), -math.log(max(1, count - 1))) for count in counts])


def _single(logits_BK: Tensor, target_B: Tensor, kind: LossKind, gamma: float, smoothing: float) -> Tensor:
    if kind == "binary_cross_entropy":
        hot_BK = F.one_hot(target_B, logits_BK.shape[1])
        return _binary(logits_BK, hot_BK, smoothing, 0.0, None).mean(dim=1)
    loss_B = F.cross_entropy(logits_BK, target_B, label_smoothing=smoothing, reduction="none")
    if kind == "cross_entropy":
        return loss_B
    truth_B = logits_BK.softmax(dim=1).gather(1, target_B[:, None])[:, 0]
    return (1 - truth_B) ** gamma * loss_B


def _binary(
    logits_BK: Tensor, truth_BK: Tensor, smoothing: float, gamma: float, class_weight_K: Tensor | None
) -> Tensor:
    """Of each label. Smoothing for two classes: half of it goes to either answer."""
    truth_BK = truth_BK.to(logits_BK.dtype)
    softened_BK = truth_BK * (1 - smoothing) + smoothing / 2
    loss_BK = F.binary_cross_entropy_with_logits(logits_BK, softened_BK, reduction="none")
    if gamma:
        probability_BK = logits_BK.sigmoid()
        loss_BK = loss_BK * (truth_BK * (1 - probability_BK) + (1 - truth_BK) * probability_BK) ** gamma
    if class_weight_K is not None:
        loss_BK = loss_BK * torch.where(truth_BK > 0, class_weight_K, 1.0)
    return loss_BK


def check_level_weights(space: LabelSpace, level_weights: Sequence[float] | None) -> None:
    """Raises SettingsError where the weights don't fit the levels of the labels."""
    if level_weights is None:
        return
    if space.kind != "hierarchy":
        raise SettingsError(
            "params.yaml: model.level_weights: is set, but the labels of these images have no levels; set it to null"
        )
    if len(level_weights) != len(space.levels):
        names = ", ".join(level.name for level in space.levels)
        raise SettingsError(
            f"params.yaml: model.level_weights: has {len(level_weights)} numbers, should have one for each of the "
            f"levels {names}"
        )
