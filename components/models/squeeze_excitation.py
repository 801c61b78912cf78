"""Residual networks with channel attention: Hu et al. 2018, "Squeeze-and-Excitation Networks"."""

from typing import Any

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.misc import SqueezeExcitation

_REDUCTION = 16
"""Ratio of the channels to the hidden channels of the excitation (table 10 of the paper)."""


class _SEBasicBlock(BasicBlock):
    def __init__(self, inplanes: int, planes: int, *more: Any, **named: Any) -> None:
        super().__init__(inplanes, planes, *more, **named)
        self.bn2: nn.Module = _with_channel_weights(self.bn2, planes * self.expansion)


class _SEBottleneck(Bottleneck):
    def __init__(self, inplanes: int, planes: int, *more: Any, **named: Any) -> None:
        super().__init__(inplanes, planes, *more, **named)
        self.bn3: nn.Module = _with_channel_weights(self.bn3, planes * self.expansion)


def se_resnet18(num_classes: int) -> ResNet:
    return ResNet(_SEBasicBlock, [2, 2, 2, 2], num_classes=num_classes)


def se_resnet34(num_classes: int) -> ResNet:
    return ResNet(_SEBasicBlock, [3, 4, 6, 3], num_classes=num_classes)


def se_resnet50(num_classes: int) -> ResNet:
    return ResNet(_SEBottleneck, [3, 4, 6, 3], num_classes=num_classes)


def _with_channel_weights(norm: nn.Module, channels: int) -> nn.Sequential:
    """The block's last norm, then the weights of its channels: in the residual branch, before the sum."""
    return nn.Sequential(norm, SqueezeExcitation(channels, channels // _REDUCTION))
