"""Where a model looks: Grad-CAM of the last feature map, and the attention of a transformer's class token.

Letters: B images, C channels, H height, W width, L tokens.
"""

from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.models.classifier import ImageClassifier
from components.models.features import evaluation_mode
from components.models.heads import attention_pool

_MAP_DIMENSIONS, _TOKEN_DIMENSIONS = 4, 3
_CANDIDATES = 24
"""Outputs from the end of the network among which the last feature map is sought."""


def grad_cam(model: ImageClassifier, images_BHWC: Tensor, logit_B: Tensor) -> NDArray[np.float32] | None:
    """What speaks for one logit of each image, in [0, 1] on the grid of the last feature map [B, H, W].

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization". The
    tokens of a transformer are its feature map. None where the network has no map with a grid.
    """
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda *seen: _note(outputs, seen[2]))
        for name, module in model.named_modules()
        if name.startswith("net.")
    ]
    try:
        # The weights may be frozen: a gradient flows from the image all the same.
        with evaluation_mode(model), torch.enable_grad():
            images_BCHW = (images_BHWC.permute(0, 3, 1, 2).float() - model.mean) / model.std
            logits_BT: Tensor = model.net(images_BCHW.requires_grad_())
            late = outputs[-_CANDIDATES:]
            slopes = torch.autograd.grad(logits_BT.gather(1, logit_B[:, None]).sum(), late, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    found = [
        (_as_maps(output.detach()), _as_maps(slope))
        for output, slope in zip(late, slopes, strict=True)
        if slope is not None
    ]
    # Behind the last attention only the class token speaks for a logit: its map comes from before.
    spoken = [(maps, slope) for maps, slope in found if maps is not None and slope is not None and slope.any()]
    if not spoken:
        return None
    maps_BCHW, slopes_BCHW = spoken[-1]
    weight_BC = slopes_BCHW.mean(dim=(2, 3), keepdim=True)
    return _scaled((weight_BC * maps_BCHW).sum(dim=1).relu())


def attention_map(model: ImageClassifier, images_BHWC: Tensor) -> NDArray[np.float32] | None:
    """What each place weighs in the network's attention, in [0, 1] [B, H, W].

    With pooling by attention its weights; of a transformer how much the class token attends to each place in the last
    layer, mean over the heads. None for a network without either.
    """
    if attention_pool(model.net) is not None:
        with evaluation_mode(model), torch.no_grad():
            return _scaled(model.attention_map(images_BHWC))
    weights_BLL = _last_attention(model, images_BHWC)
    # Attention within windows has more rows than images.
    if weights_BLL is None or weights_BLL.ndim != _TOKEN_DIMENSIONS or len(weights_BLL) != len(images_BHWC):
        return None
    from_class_BL = weights_BLL[:, 0, 1:]
    side = isqrt(from_class_BL.shape[1])
    if side < 2 or side * side != from_class_BL.shape[1]:
        return None
    return _scaled(from_class_BL.reshape(-1, side, side))


def _last_attention(model: ImageClassifier, images_BHWC: Tensor) -> Tensor | None:
    """Mean weights over the heads of the last attention layer, torch's or timm's; None where there is none."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.MultiheadAttention) or _is_timms(layer)]
    if not layers:
        return None
    last: Any = layers[-1]
    kept: list[Tensor] = []
    if isinstance(last, nn.MultiheadAttention):
        asked = {"need_weights": True, "average_attn_weights": True}
        hooks = [
            last.register_forward_pre_hook(lambda _, inputs, named: (inputs, named | asked), with_kwargs=True),
            last.register_forward_hook(lambda *seen: kept.append(seen[2][1])),
        ]
    else:
        # The fused form never has the weights; the other one hands them to its dropout.
        fused, last.fused_attn = last.fused_attn, False
        hooks = [last.attn_drop.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].mean(dim=1)))]
    try:
        with evaluation_mode(model), torch.no_grad():
            model(images_BHWC)
    finally:
        for hook in hooks:
            hook.remove()
        if not isinstance(last, nn.MultiheadAttention):
            last.fused_attn = fused
    return kept[-1] if kept else None


def _is_timms(layer: nn.Module) -> bool:
    return hasattr(layer, "fused_attn") and isinstance(getattr(layer, "attn_drop", None), nn.Module)


def overlay(image_HWC: NDArray[np.uint8], map_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image with warm colours where the map is high."""
    import cv2

    height, width = image_HWC.shape[:2]
    strength_HW = cv2.resize(map_HW, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    colours_HWC = cv2.applyColorMap(np.rint(255 * strength_HW).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    grey_HW1 = image_HWC.mean(axis=2, keepdims=True)
    share_HW1 = 0.25 + 0.5 * strength_HW[..., None]
    mixed: NDArray[np.uint8] = np.rint((1 - share_HW1) * grey_HW1 + share_HW1 * colours_HWC).astype(np.uint8)
    return mixed


def _note(outputs: list[Tensor], output: Any) -> None:
    if isinstance(output, Tensor) and output.requires_grad and _as_maps(output) is not None:
        outputs.append(output)


def _as_maps(output: Tensor) -> Tensor | None:
    """[B, C, H, W] of a feature map or of tokens with or without a class token; None for anything else.

    Images are squares, so a map whose first two lengths are equal and whose last is another one has its channels last,
    as in timm's Swin.
    """
    if output.ndim == _MAP_DIMENSIONS and output.shape[1] == output.shape[2] != output.shape[3]:
        output = output.permute(0, 3, 1, 2)
    if output.ndim == _MAP_DIMENSIONS and output.shape[2] > 1 and output.shape[3] > 1:
        return output
    if output.ndim == _TOKEN_DIMENSIONS:
        for extra in (1, 0):
            side = isqrt(output.shape[1] - extra)
            if side > 1 and side * side == output.shape[1] - extra:
                return output[:, extra:].transpose(1, 2).reshape(len(output), -1, side, side)
    return None


def _scaled(maps_BHW: Tensor) -> NDArray[np.float32]:
    """Each map by its own largest value."""
    largest_B11 = maps_BHW.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    scaled: NDArray[np.float32] = (maps_BHW / largest_B11).float().cpu().numpy()
    return scaled
