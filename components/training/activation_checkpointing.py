"""Activation checkpointing: less memory for a second forward pass of each block (Chen et al. 2016)."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from components.models.layer_groups import backbone_children

_BatchNorm = nn.modules.batchnorm._BatchNorm


def checkpoint_activations(net: nn.Module) -> None:
    """Makes each block before the head discard its inner activations and compute them again in the backward pass.

    timm does so by itself, but its batch norms would count each batch twice.
    """
    set_grad_checkpointing: Any = getattr(net, "set_grad_checkpointing", None)
    if set_grad_checkpointing is not None and not any(isinstance(module, _BatchNorm) for module in net.modules()):
        # Some networks of timm refuse by an assertion.
        with contextlib.suppress(AssertionError):
            set_grad_checkpointing()
            return
    for child in backbone_children(net):
        child.forward = partial(checkpoint, child.forward, use_reentrant=False, context_fn=partial(_contexts, child))


def _contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    return contextlib.nullcontext(), _fixed_statistics(block)


@contextlib.contextmanager
def _fixed_statistics(block: nn.Module) -> Iterator[None]:
    """The second pass sees the same images: batch norms must not count them twice."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.training and norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
