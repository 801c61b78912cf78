"""Optimizers over a network's layer groups."""

import torch
from torch import nn

from components.models.layer_groups import parameter_groups
from components.training.settings import RANGE_TEST, TrainingJob

SCALING_BATCH = 256
"""Batch that a rate is meant for where it scales with the batch (Goyal et al. 2017)."""


def peak_rate(job: TrainingJob, found: float) -> float:
    """Peak learning rate of the head, from the one that the settings give or a range test found."""
    if not job.train.scale_learning_rate_with_batch or job.learning_rate == RANGE_TEST:
        return found
    return found * job.train.batch_size * job.train.gradient_accumulation_steps / SCALING_BATCH


def new_optimizer(net: nn.Module, job: TrainingJob, *, learning_rate: float, fused: bool) -> torch.optim.Optimizer:
    """An optimizer of the parameters that aren't frozen, by layer group; norms and biases have no weight decay."""
    groups = parameter_groups(
        net, learning_rate=learning_rate, weight_decay=job.train.weight_decay, layer_decay=job.layer_decay
    )
    match job.train.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=learning_rate, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
