"""The loss of a mixed batch is that of the mixed target, whatever the kind of labels."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.data.packed.loaders import Batch
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import Task
from components.training.mixup import mix
from components.training.objective import Objective
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]
SINGLE = SingleLabel.of(["a", "b", "c"])
SET = MultiLabel.of([["a", "b", "c"]])
TREE = Hierarchy.of([("x", "a"), ("x", "b"), ("y", "c")], ["coarse", "fine"])
IMAGES = torch.arange(4, dtype=torch.uint8).mul(50).view(4, 1, 1, 1).expand(4, 16, 16, 3).contiguous()


@pytest.mark.parametrize(
    ("task", "train", "loss"),
    [
        (SINGLE, {}, math.log(3)),
        (SINGLE, {"label_smoothing": 0.1}, math.log(3)),
        (SINGLE, {"loss": "focal", "focal_gamma": 2.0}, (2 / 3) ** 2 * math.log(3)),
        # Of a class that is there in one of three images.
        (SINGLE, {"loss": "binary_cross_entropy"}, (math.log(3) + 2 * math.log(3 / 2)) / 3),
        (SET, {}, math.log(2)),
        (TREE, {}, 0.5 * math.log(2) + math.log(3)),
    ],
    ids=["single", "smoothed", "focal", "binary", "set", "hierarchy"],
)
def test_a_random_guess_has_the_chance_loss(
    task: Task, train: dict[str, object], loss: float, make_job: MakeJob, tmp_path: Path
) -> None:
    labels = np.arange(5000) % 3
    target = np.eye(3, dtype=bool)[labels] if not task.exclusive else labels
    levels = {"level_weights": [0.5, 1.0] if task is TREE else None}
    job = make_job(tmp_path, model=levels, train={"label_smoothing": 0.0, **train})
    ones = np.ones(len(labels), np.float32)
    assert Objective(job, task, None).chance_loss(target, ones) == pytest.approx(loss, rel=1e-5)
    if task is SINGLE:
        weights_K = np.array([0.01, 0.01, 0.01], np.float32)
        assert Objective(job, task, weights_K).chance_loss(target, ones) == pytest.approx(0.01 * loss, rel=1e-5)


class Means(nn.Module):
    """Logits that are the mean of the image in each place: a blend's logits are the blend of the logits."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(-0.02, 0.02, count))

    def forward(self, images_BHWC: Tensor) -> Tensor:
        return images_BHWC.float().mean(dim=(1, 2, 3))[:, None] * self.scale


def objective(make_job: MakeJob, tmp_path: Path, task: Task, **train: object) -> Objective:
    job = make_job(tmp_path, train={"label_smoothing": 0.0, "seed": 2, **train})
    return Objective(job, task, None)


def test_the_loss_of_a_blend_is_the_cross_entropy_to_the_blended_target(make_job: MakeJob, tmp_path: Path) -> None:
    model, target = Means(3), torch.tensor([0, 1, 2, 0])
    seen: list[Tensor] = []
    model.register_forward_hook(lambda _, images, logits: seen.append(logits))
    batch = Batch(IMAGES, target, torch.ones(4))
    loss = objective(make_job, tmp_path, SINGLE, mixup=1.0)(model, batch, number=5, epoch=0)
    own = model(IMAGES)
    # Each blended logit lies between its image's and its partner's: the weight can be read off it.
    torch.manual_seed((2 << 32) + 5)
    mixed = mix(IMAGES, mixup=1.0, cutmix=0.0, random_erasing=0.0, random=np.random.default_rng([2, 5]))
    hot = F.one_hot(target, 3).float()
    soft = mixed.own_weight * hot + (1 - mixed.own_weight) * hot[mixed.partner_B]
    assert torch.allclose(loss, F.cross_entropy(seen[0], soft))
    assert torch.allclose(seen[0], mixed.own_weight * own + (1 - mixed.own_weight) * own[mixed.partner_B], atol=1e-4)


def test_an_images_weight_multiplies_its_loss_alone(make_job: MakeJob, tmp_path: Path) -> None:
    model, target = Means(3), torch.tensor([0, 1, 2, 0])
    batch = Batch(IMAGES, target, torch.tensor([0.0, 1.0, 3.0, 2.0]))
    loss = objective(make_job, tmp_path, SINGLE)(model, batch, number=0, epoch=0)
    loss_B = F.cross_entropy(model(IMAGES), target, reduction="none")
    assert torch.allclose(loss, (loss_B[1] + 3 * loss_B[2] + 2 * loss_B[3]) / 4)


@pytest.mark.parametrize("task", [SINGLE, SET, TREE], ids=["single", "set", "hierarchy"])
def test_every_label_type_can_be_mixed(make_job: MakeJob, tmp_path: Path, task: Task) -> None:
    labels = torch.tensor([0, 1, 2, 0])
    target = F.one_hot(labels, 3).bool() if not task.exclusive else labels
    model, batch = Means(task.num_logits), Batch(IMAGES, target, torch.ones(4))
    ways = objective(make_job, tmp_path, task, mixup=0.4, cutmix=1.0, random_erasing=0.5)
    losses = [ways(model, batch, number=number, epoch=0) for number in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
    losses[0].backward()
    assert torch.isfinite(model.scale.grad).all()  # type: ignore[arg-type]


class WithAuxiliary(Means):
    """Answers as GoogLeNet does in training: its own logits, then those of heads half-way, of which one is left out."""

    def forward(self, images_BHWC: Tensor) -> Tensor:
        own = super().forward(images_BHWC)
        return own, 2 * own, None, -own  # type: ignore[return-value]


@pytest.mark.parametrize("mixup", [0.0, 1.0], ids=["plain", "mixed"])
def test_auxiliary_heads_count_three_tenths_each(make_job: MakeJob, tmp_path: Path, mixup: float) -> None:
    ways, batch = (
        objective(make_job, tmp_path, SINGLE, mixup=mixup),
        Batch(IMAGES, torch.tensor([0, 1, 2, 0]), torch.ones(4)),
    )

    def loss(factor: float) -> Tensor:
        scaled = Means(3)
        scaled.scale.data *= factor
        return ways(scaled, batch, number=5, epoch=0)

    whole = ways(WithAuxiliary(3), batch, number=5, epoch=0)
    assert torch.allclose(whole, loss(1) + 0.3 * (loss(2) + loss(-1)))
