"""Features of images: the input of the head's last layer.

Shapes: B images, F features, H height, W width, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from components.models.classifier import ImageClassifier
from components.models.ensemble import Ensemble
from components.models.layer_groups import main_head

_MAP_NDIM = 4


@torch.no_grad()
def features(model: ImageClassifier, images_BHWC: Tensor) -> Tensor:
    """Features [B, F] of uint8 RGB images: the input of the head's last linear layer, in evaluation mode.

    The model's mode stays as it was. Where the last layer is a convolution (SqueezeNet), its input map is averaged.
    The features of an ensemble are those of its members, concatenated.
    """
    if isinstance(model, Ensemble):
        return torch.cat([features(member, images_BHWC) for member in model.members], dim=1)
    features_B = layer_input(last_layer(model.net), model, images_BHWC)
    return features_B.mean(dim=(2, 3)) if features_B.ndim == _MAP_NDIM else features_B.flatten(1)


def last_layer(network: nn.Module) -> nn.Module:
    """The layer whose output are the logits: the head's last linear layer or convolution."""
    layers = [layer for layer in main_head(network).modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return layers[-1]


@torch.no_grad()
def layer_input(layer: nn.Module, model: ImageClassifier, images_BHWC: Tensor) -> Tensor:
    """The input of `layer`, a module of the model, for these images in evaluation mode."""
    captured: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        with evaluation_mode(model):
            model(images_BHWC)
    finally:
        hook.remove()
    return captured[-1]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts the model in evaluation mode, and each module back in its own mode afterwards."""
    # The batch norms of frozen layers are in evaluation mode while the rest trains.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
