"""EfficientNet of any size from one number: Tan and Le 2019, "EfficientNet: Rethinking Model Scaling", section 3.3."""

from dataclasses import dataclass

from torch import nn

_DEPTH, _WIDTH, _RESOLUTION = 1.2, 1.1, 1.15
"""By which each grows where the coefficient grows by one; computation then grows about twofold."""
_BASE_PX = 224
_LARGEST = 7
_DROPOUT, _MORE_DROPOUT = 0.2, 0.3 / _LARGEST
"""From B0's to B7's, as the paper sets it (section 5.2)."""

# Table 1 of the paper: expansion, kernel, stride, input and output channels, layers.
_BLOCKS = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


@dataclass(frozen=True)
class CompoundScale:
    """What one coefficient makes of depth, width and resolution; 0 is EfficientNet-B0."""

    depth: float
    width: float
    image_size_px: int
    """The side of the images that goes with the depth and width, where B0 has 224."""
    dropout: float


def compound_scale(coefficient: float) -> CompoundScale:
    return CompoundScale(
        depth=_DEPTH**coefficient,
        width=_WIDTH**coefficient,
        image_size_px=round(_BASE_PX * _RESOLUTION**coefficient),
        dropout=max(0.0, min(0.5, _DROPOUT + _MORE_DROPOUT * coefficient)),
    )


def compound_efficientnet(coefficient: float, *, num_classes: int) -> nn.Module:
    """Depth and width of the coefficient; a negative one gives networks smaller than B0."""
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    scale = compound_scale(coefficient)
    blocks = [MBConvConfig(*row, width_mult=scale.width, depth_mult=scale.depth) for row in _BLOCKS]
    model: nn.Module = EfficientNet(blocks, dropout=scale.dropout, num_classes=num_classes)
    return model
