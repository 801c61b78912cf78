"""Weights averaged: over the steps of a training, or over its best checkpoints."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

State = dict[str, Tensor]


class MovingAverage(AveragedModel):
    """An exponential moving average of a network's weights; its batch norms' statistics are averaged alike."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net, multi_avg_fn=_young_average(decay), use_buffers=True)
        self.requires_grad_(False)


def _young_average(decay: float) -> Callable[..., None]:
    """The average forgets its first, untrained weights sooner: its decay is at most (1 + n) / (10 + n) after n steps
    (as TensorFlow's ExponentialMovingAverage has it with num_updates)."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        steps = int(count)
        average_into = get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))  # type: ignore[no-untyped-call]
        average_into(averaged, current, count)

    return update


def greedy_soup(checkpoints: Sequence[State], score: Callable[[State], float]) -> tuple[State, list[int]]:
    """The average of those checkpoints, from the best one on, that make it no worse, and their places.

    Wortsman et al. 2022, "Model soups", recipe 1. `checkpoints` come in order of their score, the best first;
    `score` tells how good weights are, more is better.
    """
    chosen = [0]
    model_soup_size, best = dict(checkpoints[0]), score(checkpoints[0])
    for place in range(1, len(checkpoints)):
        candidate = average([checkpoints[number] for number in (*chosen, place)])
        found = score(candidate)
        if found >= best:
            model_soup_size, best = candidate, found
            chosen.append(place)
    return model_soup_size, chosen


def average(states: Sequence[State]) -> State:
    """The mean of each tensor; counts and other whole numbers are those of the first."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
