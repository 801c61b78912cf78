"""The first layers of a network on small images, where a stem made for 224 px would leave nothing to see.

Shapes: B images, C channels, H height, W width.
"""

import copy
from collections import defaultdict
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from components.models.catalogue import SMALL_IMAGE_PX
from components.models.zoo import timm_name

Stem = Literal["own", "small", "dense"]
"""own: as the architecture was published.
small: without the first two halvings of the resolution, and the first convolution 3×3.
dense: without them too, but with the first convolution as published, so that published weights fit.
"""

_REDUCTION = 4
"""Factor by which a network for 224 px reduces the image before its first stage; the small stem leaves it out."""
_PROBE_PX = 256
_PATCH_SIDES_PX = (4, 3, 2)
# They see the full resolution in their first layers, or are bound to the size that they were made for.
_MADE_FOR_SMALL = ("plain", "lenet5")
_UNCHANGED = (*_MADE_FOR_SMALL, "vgg", "maxvit")
_Strided = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


def stem_for(name: str, image_size_px: int, *, with_weights: bool = False) -> Stem:
    """The stem that an architecture gets for images of this size."""
    # timm has too many sorts of stems to change them all alike.
    if image_size_px >= SMALL_IMAGE_PX or name.startswith(_UNCHANGED) or timm_name(name) is not None:
        return "own"
    if with_weights:
        # The patches of a transformer can't overlap without more positions than its embeddings know.
        return "own" if name.startswith("vit_") else "dense"
    return "small"


def adapt_stem(model: nn.Module, name: str, stem: Stem, image_size_px: int) -> None:
    """Changes the network's first layers in place."""
    if stem == "own":
        return
    if name.startswith("vit_"):
        _shrink_patches(model, image_size_px)
    else:
        _drop_halvings(model, dense=stem == "dense")


def describe_stem(name: str, stem: Stem, image_size_px: int) -> str | None:
    """A note for the log; None where the network is as published, and meant for images of this size."""
    stem_note = f"small-image stem for {image_size_px} px"
    match stem:
        case "small" if name.startswith("vit_"):
            return f"{stem_note}: patches of {_patch_side(image_size_px)} px"
        case "small":
            return f"{stem_note}: a 3×3 convolution of stride 1, and the first two halvings left out"
        case "dense":
            return f"{stem_note}: the first two halvings left out, the weights' own first kernel kept"
    if image_size_px < SMALL_IMAGE_PX and not name.startswith(_MADE_FOR_SMALL):
        return f"{name} keeps its own stem, also for {image_size_px} px"
    return None


def _drop_halvings(model: nn.Module, *, dense: bool) -> None:
    left = _REDUCTION
    for number, group in enumerate(_strided_layers(model)):
        stride = _stride(model.get_submodule(group[0]))
        if stride > left:
            return
        left //= stride
        for path in group:
            _set(model, path, _without_stride(model.get_submodule(path), fresh=number == 0 and not dense))


def _strided_layers(model: nn.Module) -> list[list[str]]:
    """Names of the layers that lower the resolution, those that see the same one together, the finest first."""
    # On the meta device only shapes are computed.
    shadow = copy.deepcopy(model).to("meta").eval()
    seen: dict[int, list[str]] = defaultdict(list)

    def record(path: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[inputs[0].shape[-1]].append(path)

    for path, layer in shadow.named_modules():
        if isinstance(layer, _Strided) and _stride(layer) > 1:
            layer.register_forward_pre_hook(partial(record, path))
    shadow(torch.empty(1, 3, _PROBE_PX, _PROBE_PX, device="meta"))
    return [seen[side] for side in sorted(seen, reverse=True)]


def _stride(layer: nn.Module) -> int:
    stride = layer.stride
    side = stride[0] if isinstance(stride, tuple) else stride
    assert isinstance(side, int)
    return side


def _without_stride(layer: nn.Module, *, fresh: bool) -> nn.Module:
    """The layer without its stride; a fresh 3×3 convolution in place of a larger one."""
    if not isinstance(layer, nn.Conv2d):
        return nn.Identity()
    if not fresh or layer.kernel_size[0] <= 3:
        layer.stride = (1, 1)
        # Patches that stood side by side now overlap, and the map keeps the size of the image.
        layer.padding = (
            layer.padding if layer.padding != (0, 0) else tuple((side - 1) // 2 for side in layer.kernel_size)
        )
        return layer
    return _fresh_convolution(layer.out_channels, side=3, stride=1, bias=layer.bias is not None)


def _fresh_convolution(channels: int, *, side: int, stride: int, bias: bool) -> nn.Conv2d:
    convolution = nn.Conv2d(3, channels, side, stride=stride, padding=(side - 1) // 2 if stride == 1 else 0, bias=bias)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def _shrink_patches(model: nn.Module, image_size_px: int) -> None:
    side = _patch_side(image_size_px)
    encoder: nn.Module = model.encoder  # type: ignore[assignment]
    width, positions = model.hidden_dim, (image_size_px // side) ** 2 + 1
    assert isinstance(width, int)
    model.conv_proj = _fresh_convolution(width, side=side, stride=side, bias=True)
    model.patch_size, model.image_size, model.seq_length = side, image_size_px, positions  # type: ignore[assignment]
    encoder.pos_embedding = nn.Parameter(torch.empty(1, positions, width).normal_(std=0.02))


def _patch_side(image_size_px: int) -> int:
    return next((side for side in _PATCH_SIDES_PX if image_size_px % side == 0), 1)


def _set(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
