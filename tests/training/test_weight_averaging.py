"""Averages of weights: moving ones, and soups."""

import pytest
import torch
from torch import nn

from components.training.weight_averaging import MovingAverage, average, greedy_soup


def test_a_moving_average_follows_the_weights_and_the_statistics_of_batch_norms() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    moving = MovingAverage(net, decay=0.5)
    nn.init.zeros_(net[0].weight)
    moving.update_parameters(net)
    nn.init.ones_(net[0].weight)
    net[1].running_mean.fill_(1.0)  # type: ignore[union-attr, operator]
    moving.update_parameters(net)
    # A young average forgets sooner: (1 + 1) / (10 + 1) is below 0.5.
    assert torch.allclose(moving.module[0].weight, torch.full((2, 2), 1 - 2 / 11))
    assert torch.allclose(moving.module[1].running_mean, torch.full((2,), 1 - 2 / 11))
    assert not any(value.requires_grad for value in moving.parameters())


def test_a_soup_takes_the_checkpoints_that_help_and_leaves_the_others() -> None:
    states = [{"w": torch.tensor([value])} for value in (0.9, 1.2, 5.0)]
    model_soup_size, chosen = greedy_soup(states, lambda state: -abs(float(state["w"]) - 1.0))
    assert chosen == [0, 1]
    assert float(model_soup_size["w"]) == pytest.approx(1.05)


def test_a_soup_of_one_is_the_best_checkpoint() -> None:
    states = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}]
    model_soup_size, chosen = greedy_soup(states, lambda state: -abs(float(state["w"]) - 1.0))
    assert (chosen, float(model_soup_size["w"])) == ([0], 1.0)


def test_counts_are_not_averaged() -> None:
    states = [
        {"steps": torch.tensor(3), "w": torch.tensor([1.0])},
        {"steps": torch.tensor(6), "w": torch.tensor([3.0])},
    ]
    mean = average(states)
    assert mean["steps"] == 3
    assert mean["w"].item() == 2.0
