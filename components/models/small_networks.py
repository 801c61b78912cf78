"""Convolutional networks for small images that torchvision doesn't have.

Shapes: B images, C channels, H height, W width, F features.
"""

from collections import OrderedDict

from torch import Tensor, nn


class PlainNet(nn.Module):
    """Blocks of two 3×3 convolutions with batch norm, pooling and dropout, then one linear head."""

    def __init__(self, num_classes: int, *, widths: tuple[int, ...] = (32, 64, 128), dropout: float = 0.2) -> None:
        super().__init__()
        blocks, channels = OrderedDict[str, nn.Module](), 3
        for number, width in enumerate(widths, start=1):
            blocks[f"block{number}"] = _block(channels, width, dropout)
            channels = width
        self.features = nn.Sequential(blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        features_BF = self.pool(self.features(images_BCHW)).flatten(1)
        logits: Tensor = self.classifier(features_BF)
        return logits


def _block(channels: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(dropout),
    )


class LeNet5(nn.Module):
    """LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", over any image size and RGB."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                c1=nn.Sequential(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2)),
                c3=nn.Sequential(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AdaptiveAvgPool2d(5)),
            )
        )
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(16 * 5 * 5, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh())
        self.classifier = nn.Linear(84, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.hidden(self.features(images_BCHW)))
        return logits
