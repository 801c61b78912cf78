"""Heads: pooling and dropout after the backbone.

A hierarchy's head is one linear layer a level, side by side: together they are the one layer of T outputs that every
architecture has, and Hierarchy.level_slices says which belong to which level.

Shapes: B images, C channels, H height, W width, P = H × W positions.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from components.models.attention_pooling import AttentionPool
from components.models.layer_groups import head_names, main_head
from components.models.zoo import timm_name
from components.shared.errors import SettingsError

Pooling = Literal["average", "attention"]

_APPENDED = {"DenseNet": "features", "MobileNetV2": "features", "MNASNet": "layers"}
"""Networks that average in their `forward`, with the container that ends in the last map; a pooled map passes
through that average unchanged."""


class DropoutLinear(nn.Linear):
    """A linear layer with dropout before it; the names of its weights stay those of a plain one."""

    def __init__(self, layer: nn.Linear, dropout: float) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias, self.dropout = layer.weight, layer.bias, dropout

    def forward(self, features_BF: Tensor) -> Tensor:
        return super().forward(F.dropout(features_BF, self.dropout, self.training))


def configure_head(network: nn.Module, architecture: str, *, pooling: Pooling, dropout: float | None) -> None:
    """Changes the pooling, and the dropout before the last layer, in place; None keeps the network's own dropout.

    Raises SettingsError where the network has no map that is averaged at its end.
    """
    if pooling == "attention":
        _pool_by_attention(network, architecture)
    # timm's networks are built with their dropout.
    if dropout is not None and timm_name(architecture) is None:
        _drop_before_last(network, architecture, dropout)


def reset_overconfident_head(network: nn.Module) -> None:
    """Initializes the last layer again, in place, where its logits would start large; call it before loading weights.

    EfficientNet's and MNASNet's own initialization depends on the number of classes and was made for 1,000. With ten
    classes, EfficientNet-B0 reached 0.16 validation accuracy after 120 steps on CIFAR-10; with torch's default
    initialization, which this is, 0.44.
    """
    heads = [network.get_submodule(name) for name in head_names(network)]
    layers = [layer for head in heads for layer in head.modules() if isinstance(layer, nn.Linear)]
    if not layers or layers[-1].weight.is_meta:
        return
    # For features of variance 1, logits have a variance of 1 at this deviation of the weights.
    if float(layers[-1].weight.detach().std()) > layers[-1].in_features ** -0.5:
        layers[-1].reset_parameters()


def attention_pool(network: nn.Module) -> AttentionPool | None:
    """The network's attention pooling, where it has one."""
    return next((module for module in network.modules() if isinstance(module, AttentionPool)), None)


def _pool_by_attention(network: nn.Module, architecture: str) -> None:
    layers = [layer for layer in main_head(network).modules() if isinstance(layer, nn.Linear)]
    averages = [name for name, child in network.named_children() if _averages(child)]
    container = _APPENDED.get(type(network).__name__)
    if not layers or not (averages or container):
        raise SettingsError(
            f"params.yaml: model.pooling: {architecture} has no map of features that is averaged at its end, as "
            "resnet18 has, so there is nothing for attention to weigh; use average"
        )
    pool = AttentionPool(layers[0].in_features)
    if averages:
        setattr(network, averages[-1], pool)
        return
    backbone = network.get_submodule(container or "")
    if container == "features" and type(network).__name__ == "DenseNet":
        # Its forward applies a ReLU before it averages; a map that had one already stays as it is.
        backbone.add_module("relu", nn.ReLU())
    backbone.add_module("attention", pool)


def _averages(module: nn.Module) -> bool:
    return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))


def _drop_before_last(network: nn.Module, architecture: str, dropout: float) -> None:
    own = [module for module in main_head(network).modules() if isinstance(module, nn.Dropout)]
    own += [child for name, child in network.named_children() if name == "dropout" and isinstance(child, nn.Dropout)]
    layers = [layer for layer in main_head(network).modules() if isinstance(layer, nn.Linear)]
    if own:
        own[-1].p = dropout
    elif layers:
        _replace(network, layers[-1], DropoutLinear(layers[-1], dropout))
    else:
        raise SettingsError(f"params.yaml: model.dropout: {architecture} has no linear layer at its end; use null")


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in network.named_modules() if module is old)
    owner, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(owner), attribute, new)
