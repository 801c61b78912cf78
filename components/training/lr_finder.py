"""Learning-rate range test: the rate grows from step to step, and the loss shows where it falls fastest."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from components.data.packed.loaders import Batch
from components.models.classifier import ImageClassifier
from components.models.layer_groups import freeze_batch_norms
from components.shared.errors import SettingsError
from components.training.distributed import current_device
from components.training.objective import Objective
from components.training.optimizers import new_optimizer
from components.training.settings import TrainingJob

STEPS = 100
_LOWEST, _HIGHEST = 1e-6, 1.0
_SMOOTHING = 0.9
"""Weight of the past in the smoothed loss."""
_TOO_HIGH = 3.0
"""Multiple of the lowest smoothed loss at which the test stops."""


@dataclass(frozen=True)
class RangeTest:
    rates: list[float]
    losses: list[float]
    """Smoothed, after a step at each rate."""
    found: float


def find_learning_rate(
    job: TrainingJob, model: ImageClassifier, objective: Objective, batches: Iterable[Batch]
) -> RangeTest:
    """Smith 2017, "Cyclical Learning Rates", section 3.3: the rate where the smoothed loss falls most steeply.

    The model and the random states stay as they are; `batches` may end early and then starts again.
    """
    device = current_device()
    rates, losses, smooth = [], [], 0.0
    with torch.random.fork_rng():
        trial = copy.deepcopy(model).to(device).train()
        freeze_batch_norms(trial)
        optimizer = new_optimizer(trial.net, job, learning_rate=_LOWEST, fused=True)
        for number, batch in enumerate(_endless(batches)):
            rate = _LOWEST * (_HIGHEST / _LOWEST) ** (number / (STEPS - 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss = objective(trial, Batch(*(value.to(device) for value in batch)), number=number, epoch=job.epochs)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            smooth = _SMOOTHING * smooth + (1 - _SMOOTHING) * loss.item()
            rates.append(rate)
            losses.append(smooth / (1 - _SMOOTHING ** (number + 1)))
            if not math.isfinite(smooth) or losses[-1] > _TOO_HIGH * min(losses) or number == STEPS - 1:
                break
    return RangeTest(rates, losses, _steepest(rates, losses))


def _steepest(rates: list[float], losses: list[float]) -> float:
    """The rate of the steepest fall, without the first ten and the last five finite losses, as in fastai."""
    finite = [index for index, loss in enumerate(losses) if math.isfinite(loss)]
    indices = finite[10:-5]
    if len(indices) < 2:
        raise SettingsError(
            "params.yaml: train.learning_rate: no rate lowered the loss in the range test; give one such as 0.001"
        )
    slope = np.gradient([losses[index] for index in indices], np.log([rates[index] for index in indices]))
    return rates[indices[int(np.argmin(slope))]]


def _endless(batches: Iterable[Batch]) -> Iterable[Batch]:
    while True:
        yield from batches
