"""Residual networks that weigh their channels: Hu et al. 2018, "Squeeze-and-Excitation Networks"."""

from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.misc import SqueezeExcitation

_REDUCTION = 16
"""Channels over those between the two layers that weigh them (table 10 of the paper)."""


class _WeighedBasicBlock(BasicBlock):
    def __init__(self, inplanes: int, planes: int, *more: Any, **named: Any) -> None:
        super().__init__(inplanes, planes, *more, **named)
        self.bn2: nn.Module = _weighed(self.bn2, planes * self.expansion)


class _WeighedBottleneck(Bottleneck):
    def __init__(self, inplanes: int, planes: int, *more: Any, **named: Any) -> None:
        super().__init__(inplanes, planes, *more, **named)
        self.bn3: nn.Module = _weighed(self.bn3, planes * self.expansion)


def se_resnet18(num_classes: int) -> ResNet:
    return ResNet(_WeighedBasicBlock, [2, 2, 2, 2], num_classes=num_classes)


def se_resnet34(num_classes: int) -> ResNet:
    return ResNet(_WeighedBasicBlock, [3, 4, 6, 3], num_classes=num_classes)


def se_resnet50(num_classes: int) -> ResNet:
    return ResNet(_WeighedBottleneck, [3, 4, 6, 3], num_classes=num_classes)


def _weighed(norm: nn.Module, channels: int) -> nn.Sequential:
    """The block's last norm, then the weights of its channels: in the residual branch, before the sum."""
    return nn.Sequential(norm, SqueezeExcitation(channels, channels // _REDUCTION))
