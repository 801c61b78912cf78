"""Every architecture by name: our own small nets and all that torchvision knows for classification."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from components.errors import SettingsError, nearest
from components.models.catalogue import OWN_ARCHITECTURES
from components.models.convnets import LeNet5, PlainNet

SMALL_IMAGE_PX = 64
_OWN: dict[str, Callable[[int], nn.Module]] = dict(zip(OWN_ARCHITECTURES, (PlainNet, LeNet5), strict=True))


def check_architecture(name: str) -> None:
    """Raises SettingsError with the nearest name where none is called so."""
    if name in _OWN:
        return
    known = _torchvision_names()
    if name not in known:
        raise SettingsError(
            f"params.yaml: model.architecture: {name} is unknown{nearest(name, [*_OWN, *known])} "
            f"({', '.join(_OWN)} and torchvision's {len(known)} classification models)"
        )


def build(name: str, *, num_classes: int, image_size_px: int) -> nn.Module:
    """The network with fresh weights and a head of `num_classes`."""
    check_architecture(name)
    if name in _OWN:
        return _OWN[name](num_classes)
    import torchvision

    extras = _extras(name, image_size_px)
    try:
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **extras)
    except AssertionError as problem:
        raise _unfit(name, image_size_px, problem) from None
    if small_stem(name, image_size_px):
        _shrink_stem(model)
    return model


def small_stem(name: str, image_size_px: int) -> bool:
    """Whether the network gets the stem for small images: a 3×3 convolution of stride 1 and no pooling."""
    return image_size_px < SMALL_IMAGE_PX and name.startswith(("resnet", "resnext", "wide_resnet"))


def check_image_size(model: nn.Module, name: str, image_size_px: int) -> None:
    """Raises SettingsError where the network can't learn from images of this size."""
    # Without storage: shapes are worked out, nothing is computed and the model's statistics stay as they are.
    shadow = copy.deepcopy(model).to("meta").train()
    try:
        shadow(torch.empty(2, 3, image_size_px, image_size_px, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as problem:
        raise _unfit(name, image_size_px, problem) from None


def _unfit(name: str, image_size_px: int, problem: Exception) -> SettingsError:
    return SettingsError(
        f"params.yaml: preprocess.image_size_px: {name} doesn't take images of {image_size_px} px "
        f"({str(problem).splitlines()[0]}); give another size or another model.architecture"
    )


def _extras(name: str, image_size_px: int) -> dict[str, Any]:
    if name.startswith("vit_"):
        return {"image_size": image_size_px}
    # Without it both nets spend a minute drawing truncated normals that training soon forgets.
    return {"init_weights": False} if name in ("googlenet", "inception_v3") else {}


def _shrink_stem(model: nn.Module) -> None:
    width = model.conv1.out_channels  # type: ignore[union-attr]
    model.conv1 = nn.Conv2d(3, width, 3, stride=1, padding=1, bias=False)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def _torchvision_names() -> list[str]:
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))
