"""Activation checkpointing changes the memory, not what is learned."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from components.models.architectures import build
from components.models.classifier import ImageClassifier
from components.models.layer_groups import backbone_children
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
    plain, checkpointed = trained(False), trained(True)
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name  # type: ignore[arg-type]
    for (name, one), other in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("name", ["timm/resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_networks_of_timm_learn_alike(name: str) -> None:
    """Those with batch norms not by timm's own switch, which counts each batch twice in their statistics."""
    torch.manual_seed(0)
    plain = build(name, num_classes=3, image_size_px=32).train()
    checkpointed = copy.deepcopy(plain)
    checkpoint_activations(checkpointed)
    images = torch.rand(2, 3, 32, 32)
    for net in (plain, checkpointed):
        net(images).square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name  # type: ignore[arg-type]
    for (name, one), other in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_blocks_keep_fewer_activations() -> None:
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


def test_copies_that_are_measured_are_checkpointed_too(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(job: TrainingJob, model: ImageClassifier, *_: Any, **__: Any) -> None:
        for child in backbone_children(copy.deepcopy(model).net):
            forward: Any = child.forward
            assert forward.args[0].__self__ is child
        raise Measured

    class Measured(Exception):
        pass

    monkeypatch.setattr("components.training.fit.choose_numerics", stop)
    with pytest.raises(Measured):
        fit(make_job(tmp_path, train={"activation_checkpointing": True}), on_epoch=lambda _: None)
