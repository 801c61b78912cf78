"""Every architecture by name: our own, all that torchvision knows for classification, and timm's."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from components.models.catalogue import COMPOUND, OWN_ARCHITECTURES, TIMM_PREFIX
from components.models.compound_efficientnet import compound_efficientnet
from components.models.heads import reset_overconfident_head
from components.models.inception import inception_blocks
from components.models.small_networks import LeNet5, PlainNet
from components.models.squeeze_excitation import se_resnet18, se_resnet34, se_resnet50
from components.models.stems import Stem, adapt_stem, stem_for
from components.models.zoo import build_timm, timm_name, timm_names, torchvision_names
from components.shared.errors import SettingsError, first_line, nearest

_OWN: dict[str, Callable[[int], nn.Module]] = {
    "plain": PlainNet,
    "lenet5": LeNet5,
    "se_resnet18": se_resnet18,
    "se_resnet34": se_resnet34,
    "se_resnet50": se_resnet50,
}


def check_architecture(name: str) -> None:
    """Raises SettingsError with the nearest name for a name that neither we nor torchvision nor timm know."""
    known = [*OWN_ARCHITECTURES, *torchvision_names()]
    if name in known or timm_name(name) is not None:
        return
    of_timm = timm_names()
    raise SettingsError(
        f"params.yaml: model.architecture: {name} is unknown"
        f"{nearest(name.removeprefix(TIMM_PREFIX), [*known, *of_timm])} "
        f"({', '.join(OWN_ARCHITECTURES)}, torchvision's {len(torchvision_names())} classification models, and timm's "
        f"{len(of_timm)}, by NAME or timm/NAME)"
    )


def build(
    name: str,
    *,
    num_classes: int,
    image_size_px: int,
    stem: Stem | None = None,
    compound: float | None = None,
    dropout: float | None = None,
) -> nn.Module:
    """The network with fresh weights and a head of `num_classes`; without a stem the one that suits the size."""
    check_architecture(name)
    stem = stem or stem_for(name, image_size_px)
    model = _built(name, num_classes, image_size_px, stem, compound, dropout)
    adapt_stem(model, name, stem, image_size_px)
    reset_overconfident_head(model)
    return model


def build_on_meta(
    name: str, *, num_classes: int, image_size_px: int, stem: Stem | None = None, compound: float | None = None
) -> nn.Module:
    """The network on the meta device: shapes without storage, for counting and for trying what fits."""
    with _EmptyOnMeta():
        model = build(name, num_classes=num_classes, image_size_px=image_size_px, stem=stem, compound=compound)
    return model.to("meta")


def check_image_size(model: nn.Module, name: str, image_size_px: int) -> None:
    """Raises SettingsError where the network can't learn from images of this size."""
    # On the meta device only shapes are computed, and the model's statistics stay as they are.
    shadow = copy.deepcopy(model).to("meta").train()
    try:
        shadow(torch.empty(2, 3, image_size_px, image_size_px, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as problem:
        raise _unfit(name, image_size_px, problem) from None


def _built(
    name: str, num_classes: int, image_size_px: int, stem: Stem, compound: float | None, dropout: float | None
) -> nn.Module:
    if name in _OWN:
        return _OWN[name](num_classes)
    if name == COMPOUND:
        return compound_efficientnet(compound or 0.0, num_classes=num_classes)
    try:
        if (of_timm := timm_name(name)) is not None:
            return build_timm(of_timm, num_classes=num_classes, image_size_px=image_size_px, dropout=dropout)
        import torchvision

        options = _builder_options(name, image_size_px, stem)
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    except (AssertionError, ValueError) as problem:
        raise _unfit(name, image_size_px, problem) from None
    return model


def _unfit(name: str, image_size_px: int, problem: Exception) -> SettingsError:
    return SettingsError(
        f"params.yaml: preprocess.image_size_px: {name} doesn't take images of {image_size_px} px "
        f"({first_line(problem)}); give another size or another model.architecture"
    )


def _builder_options(name: str, image_size_px: int, stem: Stem) -> dict[str, Any]:
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
