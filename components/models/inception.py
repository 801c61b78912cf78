"""Inception-v3 with its auxiliary head on images smaller than the 299 px that it was made for.

Shapes: B images, C channels, H height, W width, K classes.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torchvision.models import inception

_OWN_PX = 299
_POOLED = 5
"""Side of the map that the auxiliary head's 5×5 convolution takes."""


class _AnySizeAuxiliary(inception.InceptionAux):
    """Pools a map of any size to 5×5, where the published one pools by 5 with stride 3; the weights are the same."""

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        maps_BCHW = self.conv1(self.conv0(F.adaptive_avg_pool2d(maps_BCHW, _POOLED)))
        logits_BK: Tensor = self.fc(F.adaptive_avg_pool2d(maps_BCHW, 1).flatten(1))
        return logits_BK


def inception_blocks(image_size_px: int) -> dict[str, Any]:
    """Keywords for torchvision's builder."""
    if image_size_px >= _OWN_PX:
        return {}
    blocks = [
        inception.BasicConv2d,
        inception.InceptionA,
        inception.InceptionB,
        inception.InceptionC,
        inception.InceptionD,
        inception.InceptionE,
        _AnySizeAuxiliary,
    ]
    return {"inception_blocks": blocks}
