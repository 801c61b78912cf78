"""Activation checkpointing: less memory for a second forward pass of each part (Chen et al. 2016)."""

import contextlib
from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from components.models.layer_groups import parts

_BatchNorm = nn.modules.batchnorm._BatchNorm


def checkpoint_activations(net: nn.Module) -> None:
    """Makes each part but the head forget its inner activations, and work them out again when it needs them."""
    for _, part in parts(net)[:-1]:
        part.forward = partial(
            checkpoint,
            part.forward,
            use_reentrant=False,
            context_fn=partial(_contexts, part),
        )


def _contexts(
    part: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    return contextlib.nullcontext(), _still_statistics(part)


@contextlib.contextmanager
def _still_statistics(part: nn.Module) -> Iterator[None]:
    """The second pass sees the same images: batch norms must not count them twice."""
    norms = [module for module in part.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
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
