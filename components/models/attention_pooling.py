"""Pooling by attention: a learned query weighs the positions of the last map.

Shapes: B images, C channels, H height, W width, P = H × W positions.
"""

import torch
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """Mean over the map's positions, weighted by the softmax of each one's agreement with a learned query.

    Attention with a single query (Ilse et al. 2018, "Attention-based Deep Multiple Instance Learning", with the scaled
    product of Vaswani et al. 2017 as agreement). The query starts at zero, so training starts from the plain mean.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(channels))

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """The pooled map [B, C, 1, 1]."""
        weight_BP = self.weights(map_BCHW).flatten(1)
        pooled_BC = (map_BCHW.flatten(2) @ weight_BP.unsqueeze(2)).squeeze(2)
        return pooled_BC[:, :, None, None]

    def weights(self, map_BCHW: Tensor) -> Tensor:
        """Weight of each position [B, H, W]; those of an image sum to 1."""
        agreement_BHW = torch.einsum("bchw,c->bhw", map_BCHW, self.query) / len(self.query) ** 0.5
        weight_BP: Tensor = agreement_BHW.flatten(1).softmax(dim=1)
        return weight_BP.view_as(agreement_BHW)
