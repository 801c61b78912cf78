"""Recomputed activations change the memory, not what is learned."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.models.classifier import ImageClassifier
from components.models.layer_groups import parts
from components.models.small_networks import PlainNet
from components.training.activation_checkpointing import checkpoint_activations
from components.training.fit import fit
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]


def trained(activation_checkpointing: bool) -> PlainNet:
    torch.manual_seed(0)
    net = PlainNet(3, widths=(4, 8))
    if activation_checkpointing:
        checkpoint_activations(net)
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(1)
    net(images).square().mean().backward()
    return net


def test_gradients_and_statistics_are_those_of_ordinary_training() -> None:
    plain, recomputed = trained(False), trained(True)
    for (name, one), other in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name  # type: ignore[arg-type]
    for (name, one), other in zip(plain.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_a_part_keeps_fewer_activations() -> None:
    saved: dict[bool, int] = {}
    for activation_checkpointing in (False, True):
        net = PlainNet(3, widths=(4, 8))
        if activation_checkpointing:
            checkpoint_activations(net)
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            net(torch.rand(4, 3, 16, 16))
        saved[activation_checkpointing] = total
    assert saved[True] < 0.5 * saved[False]


def test_copies_that_are_measured_recompute_too(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(job: TrainingJob, model: ImageClassifier, *_: Any, **__: Any) -> None:
        for _, part in parts(copy.deepcopy(model).net)[:-1]:
            assert part.forward.args[0].__self__ is part
        raise Measured

    class Measured(Exception):
        pass

    monkeypatch.setattr("components.training.fit.choose_numerics", stop)
    with pytest.raises(Measured):
        fit(make_job(tmp_path, train={"activation_checkpointing": True}), on_epoch=lambda _: None)
