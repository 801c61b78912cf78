"""EfficientNet of any size from one number."""

from torch import nn

from components.models.compound_scaling import compound_scale

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


def compound_efficientnet(coefficient: float, *, num_classes: int) -> nn.Module:
    """Depth and width of the coefficient; a negative one gives networks smaller than B0."""
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    scale = compound_scale(coefficient)
    blocks = [MBConvConfig(*row, width_mult=scale.width, depth_mult=scale.depth) for row in _BLOCKS]
    model: nn.Module = EfficientNet(blocks, dropout=scale.dropout, num_classes=num_classes)
    return model
