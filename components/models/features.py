"""What a classifier makes of an image before it decides: the input of the head's last layer.

Letters: B images, F features, H height, W width, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from components.models.classifier import ImageClassifier
from components.models.ensemble import Ensemble
from components.models.layer_groups import main_head

_MAP_DIMENSIONS = 4


@torch.no_grad()
def features(model: ImageClassifier, images_BHWC: Tensor) -> Tensor:
    """Features [B, F] of uint8 RGB images: what the head's last linear layer is given, in evaluation mode.

    The mode of the model is left as it was. Where the last layer is a convolution (SqueezeNet), its input map is
    averaged over its places. Of an ensemble the features of its members stand side by side.
    """
    if isinstance(model, Ensemble):
        return torch.cat([features(member, images_BHWC) for member in model.members], dim=1)
    features_B = input_of(last_layer(model.net), model, images_BHWC)
    return features_B.mean(dim=(2, 3)) if features_B.ndim == _MAP_DIMENSIONS else features_B.flatten(1)


def last_layer(network: nn.Module) -> nn.Module:
    """The layer that gives the logits: the head's last linear layer or convolution."""
    layers = [layer for layer in main_head(network).modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return layers[-1]


@torch.no_grad()
def input_of(layer: nn.Module, model: ImageClassifier, images_BHWC: Tensor) -> Tensor:
    """What `layer`, a part of the model, is given for these images in evaluation mode."""
    given: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        with as_evaluated(model):
            model(images_BHWC)
    finally:
        hook.remove()
    return given[-1]


@contextmanager
def as_evaluated(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and afterwards as it was."""
    # Of each module its own: the batch norms of frozen parts are in evaluation mode while the rest trains.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
