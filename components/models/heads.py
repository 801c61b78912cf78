"""What the logits of a network mean, where they are still tensors.

Letters: B images, T logits, K classes, D levels of a hierarchy.
"""

import torch
from torch import Tensor

from components.labels import LabelSpace


def class_logits(logits_BT: Tensor, space: LabelSpace) -> Tensor:
    """Logits of the K answers, as LabelSpace.class_logits gives them: a leaf has the log-probability of its path."""
    if space.kind != "hierarchy":
        return logits_BT
    total_BK = logits_BT.new_zeros(len(logits_BT), len(space.classes))
    for ancestor_K, place in zip(ancestors(space, logits_BT.device), space.level_slices(), strict=True):
        total_BK = total_BK + logits_BT[:, place].log_softmax(dim=1)[:, ancestor_K]
    return total_BK


def ancestors(space: LabelSpace, device: torch.device) -> Tensor:
    """For each level and leaf the position of the leaf's ancestor in that level, int64 [D, K]."""
    return torch.from_numpy(space.ancestors_DK()).to(device)
