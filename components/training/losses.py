"""What training lowers, for each kind of labels.

Letters: B images of a batch, T logits, K classes.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from components.data.loading import Batch
from components.errors import SettingsError
from components.labels import LabelSpace
from components.models.heads import ancestors


def classification_loss(
    logits_BT: Tensor,
    batch: Batch,
    space: LabelSpace,
    *,
    label_smoothing: float = 0.0,
    level_weights: Sequence[float] | None = None,
) -> Tensor:
    """Mean over the batch of each image's loss times its weight, in nats."""
    loss_B = image_losses(logits_BT, batch.target, space, label_smoothing=label_smoothing, level_weights=level_weights)
    return (batch.weight_B * loss_B).mean()


def image_losses(
    logits_BT: Tensor,
    target: Tensor,
    space: LabelSpace,
    *,
    label_smoothing: float = 0.0,
    level_weights: Sequence[float] | None = None,
) -> Tensor:
    """Each image's loss [B], in nats: cross-entropy; of a hierarchy its sum over the levels, by their weights; of a
    set of labels the mean binary cross-entropy of its labels."""
    if space.kind == "multi":
        # Smoothing for two classes: half of it goes to either answer.
        softened_BK = target.to(logits_BT.dtype) * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits_BT, softened_BK, reduction="none").mean(dim=1)
    if space.kind == "single":
        return F.cross_entropy(logits_BT, target, label_smoothing=label_smoothing, reduction="none")
    loss_B = logits_BT.new_zeros(len(logits_BT))
    weights = level_weights or [1.0] * len(space.levels)
    levels = zip(ancestors(space, logits_BT.device), space.level_slices(), weights, strict=True)
    for ancestor_K, place, weight in levels:
        loss_B = loss_B + weight * F.cross_entropy(
            logits_BT[:, place], ancestor_K[target], label_smoothing=label_smoothing, reduction="none"
        )
    return loss_B


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
