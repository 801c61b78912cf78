"""Costs of a network before it is trained: parameters, computation, memory, and on request its latency here.

All but the latency is counted on the meta device, from shapes alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from components.models.architectures import build, build_on_meta, check_image_size

_CLASSES = 1000
_BATCH = 2
"""Batch norm can't train on one image; counts are halved again."""
_WARMUP_RUNS = 3


@dataclass(frozen=True)
class Costs:
    architecture: str
    compound: float | None
    """Coefficient of `efficientnet`; None for all others."""
    parameters: int
    macs: int
    """Multiply-adds of one image's forward pass, as papers count them; each is two floating-point operations."""
    weight_bytes: int
    """Size of parameters and buffers in float32; training keeps gradients and moments of the same size beside them."""
    activation_bytes: int
    """Size of what one image keeps from the forward to the backward pass, in float32."""
    latency_ms: float | None
    """Time of one image on this machine's processor in torch; None if not requested."""


def costs(
    name: str, *, image_size_px: int, num_classes: int = _CLASSES, compound: float | None = None, latency_runs: int = 0
) -> Costs:
    """Costs of an architecture. Raises SettingsError for an unknown name or a size that the network can't take."""
    shape: dict[str, Any] = {"num_classes": num_classes, "image_size_px": image_size_px, "compound": compound}
    model = build_on_meta(name, **shape)
    check_image_size(model, name, image_size_px)
    images_BCHW = torch.empty(_BATCH, 3, image_size_px, image_size_px, device="meta")
    return Costs(
        architecture=name,
        compound=compound,
        parameters=sum(value.numel() for value in model.parameters()),
        weight_bytes=sum(value.nbytes for value in model.state_dict().values()),
        macs=_macs(model, images_BCHW) // _BATCH,
        activation_bytes=_saved_bytes(model, images_BCHW) // _BATCH,
        latency_ms=_latency_ms(build(name, **shape), image_size_px, latency_runs) if latency_runs else None,
    )


def _macs(model: nn.Module, images_BCHW: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images_BCHW)
    return int(counter.get_total_flops()) // 2


def _saved_bytes(model: nn.Module, images_BCHW: Tensor) -> int:
    """Size of all that autograd keeps for the backward pass except weights, each storage counted once."""
    weights = {value.untyped_storage()._cdata for value in model.parameters()}
    stored: dict[int, torch.UntypedStorage] = {}

    def store(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in weights:
            stored[storage._cdata] = storage  # a reference, so that no other storage gets its address
        return value

    with saved_tensors_hooks(store, lambda value: value):
        model.train()(images_BCHW)
    return sum(storage.nbytes() for storage in stored.values())


def _latency_ms(model: nn.Module, image_size_px: int, runs: int) -> float:
    model.eval()
    image_BCHW = torch.rand(1, 3, image_size_px, image_size_px)
    with torch.inference_mode():
        times = [_seconds(lambda: model(image_BCHW)) for _ in range(_WARMUP_RUNS + runs)]
    return 1000 * median(times[_WARMUP_RUNS:])


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
