"""Averaged weights: EMA over the steps of a training, or a soup of its best checkpoints."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

State = dict[str, Tensor]


class MovingAverage(AveragedModel):
    """An exponential moving average of a network's weights; its batch norms' statistics are averaged alike."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net, multi_avg_fn=_warmed_up_average(decay), use_buffers=True)
        self.requires_grad_(False)


def _warmed_up_average(decay: float) -> Callable[..., None]:
    """An EMA whose decay is at most (1 + n) / (10 + n) after n steps, so that untrained weights fade soon
    (TensorFlow's ExponentialMovingAverage with num_updates)."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        steps = int(count)
        average_into = get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))  # type: ignore[no-untyped-call]
        average_into(averaged, current, count)

    return update


def greedy_soup(checkpoints: Sequence[State], score: Callable[[State], float]) -> tuple[State, list[int]]:
    """The average of those checkpoints, from the best one on, that make it no worse, and their indices.

    Wortsman et al. 2022, "Model soups", recipe 1. `checkpoints` come in order of their score, the best first;
    a larger `score` is better.
    """
    chosen = [0]
    soup, best = dict(checkpoints[0]), score(checkpoints[0])
    for index in range(1, len(checkpoints)):
        candidate = average([checkpoints[number] for number in (*chosen, index)])
        new_score = score(candidate)
        if new_score >= best:
            soup, best = candidate, new_score
            chosen.append(index)
    return soup, chosen


def average(states: Sequence[State]) -> State:
    """Mean of each tensor; integers, such as counts, are those of the first state."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
