"""Every architecture by name: our own, all that torchvision knows for classification, and timm's."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from components.models.catalogue import COMPOUND, OWN_ARCHITECTURES, TIMM_PREFIX
from components.models.compound_efficientnet import compound_efficientnet
from components.models.heads import calm_last_layer
from components.models.inception import inception_blocks
from components.models.small_networks import LeNet5, PlainNet
from components.models.squeeze_excitation import se_resnet18, se_resnet34, se_resnet50
from components.models.stems import Stem, fit_stem, stem_for
from components.models.timm_models import build_timm, timm_name
from components.shared.errors import SettingsError, first_line, nearest

_OWN: dict[str, Callable[[int], nn.Module]] = {
    "plain": PlainNet,
    "lenet5": LeNet5,
    "se_resnet18": se_resnet18,
    "se_resnet34": se_resnet34,
    "se_resnet50": se_resnet50,
}


def check_architecture(name: str) -> None:
    """Raises SettingsError with the nearest name where none is called so."""
    if name in OWN_ARCHITECTURES:
        return
    if name.startswith(TIMM_PREFIX):
        timm_name(name)
        return
    known = torchvision_names()
    if name not in known:
        raise SettingsError(
            f"params.yaml: model.architecture: {name} is unknown{nearest(name, [*OWN_ARCHITECTURES, *known])} "
            f"({', '.join(OWN_ARCHITECTURES)}, torchvision's {len(known)} classification models, and timm/NAME)"
        )


def build(
    name: str, *, num_classes: int, image_size_px: int, stem: Stem | None = None, compound: float | None = None
) -> nn.Module:
    """The network with fresh weights and a head of `num_classes`; without a stem the one that suits the size."""
    check_architecture(name)
    model = _built(name, num_classes, image_size_px, stem or stem_for(name, image_size_px), compound)
    fit_stem(model, name, stem or stem_for(name, image_size_px), image_size_px)
    calm_last_layer(model)
    return model


def blueprint(
    name: str, *, num_classes: int, image_size_px: int, stem: Stem | None = None, compound: float | None = None
) -> nn.Module:
    """The network on the meta device: shapes without storage, for counting and for trying what fits."""
    with _EmptyOnMeta():
        model = build(name, num_classes=num_classes, image_size_px=image_size_px, stem=stem, compound=compound)
    return model.to("meta")


def check_image_size(model: nn.Module, name: str, image_size_px: int) -> None:
    """Raises SettingsError where the network can't learn from images of this size."""
    # Without storage: shapes are worked out, nothing is computed and the model's statistics stay as they are.
    shadow = copy.deepcopy(model).to("meta").train()
    try:
        shadow(torch.empty(2, 3, image_size_px, image_size_px, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as problem:
        raise _unfit(name, image_size_px, problem) from None


def torchvision_names() -> list[str]:
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def _built(name: str, num_classes: int, image_size_px: int, stem: Stem, compound: float | None) -> nn.Module:
    if name in _OWN:
        return _OWN[name](num_classes)
    if name == COMPOUND:
        return compound_efficientnet(compound or 0.0, num_classes=num_classes)
    try:
        if name.startswith(TIMM_PREFIX):
            return build_timm(name, num_classes=num_classes, image_size_px=image_size_px)
        import torchvision

        model: nn.Module = torchvision.models.get_model(
            name, weights=None, num_classes=num_classes, **_extras(name, image_size_px, stem)
        )
    except (AssertionError, ValueError) as problem:
        raise _unfit(name, image_size_px, problem) from None
    return model


def _unfit(name: str, image_size_px: int, problem: Exception) -> SettingsError:
    return SettingsError(
        f"params.yaml: preprocess.image_size_px: {name} doesn't take images of {image_size_px} px "
        f"({first_line(problem)}); give another size or another model.architecture"
    )


def _extras(name: str, image_size_px: int, stem: Stem) -> dict[str, Any]:
    if name.startswith("vit_"):
        # The small stem cuts patches of its own; until then any size that the network was made for will do.
        return {} if stem == "small" else {"image_size": image_size_px}
    if name.startswith("maxvit"):
        return {"input_size": (image_size_px, image_size_px)}
    # Without it both nets spend a minute drawing truncated normals that training soon forgets.
    if name == "googlenet":
        return {"init_weights": False}
    if name == "inception_v3":
        return {"init_weights": False} | inception_blocks(image_size_px)
    return {}


class _EmptyOnMeta(TorchFunctionMode):
    """Weights get no storage. `with torch.device("meta")` would also take the numbers that RegNet computes."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        extra = {"device": "meta"} if function is torch.empty else {}
        return function(*args, **(kwargs or {}) | extra)
