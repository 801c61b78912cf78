"""A learning rate found by a range test: it climbs from step to step, and the loss says where it teaches most."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from components.data.packed.loaders import Batch
from components.models.classifier import ImageClassifier
from components.models.layer_groups import keep_frozen_statistics
from components.shared.errors import SettingsError
from components.training.distributed import device_here
from components.training.objective import Objective
from components.training.optimizers import new_optimizer
from components.training.settings import TrainingJob

STEPS = 100
_LOWEST, _HIGHEST = 1e-6, 1.0
_MEMORY = 0.9
"""Of the smoothed loss, from step to step."""
_TOO_HIGH = 3.0
"""Times the lowest smoothed loss: from there on the rate only does harm."""


@dataclass(frozen=True)
class RateTest:
    rates: list[float]
    losses: list[float]
    """Smoothed, after a step at each rate."""
    found: float


def find_rate(job: TrainingJob, model: ImageClassifier, objective: Objective, batches: Iterable[Batch]) -> RateTest:
    """Smith 2017, "Cyclical Learning Rates", section 3.3: the rate where the smoothed loss falls most steeply.

    The model and the random states stay as they are; `batches` may end early and is then begun anew.
    """
    device = device_here()
    rates, losses, smooth = [], [], 0.0
    with torch.random.fork_rng():
        trial = copy.deepcopy(model).to(device).train()
        keep_frozen_statistics(trial)
        optimizer = new_optimizer(trial.net, job, learning_rate=_LOWEST, fused=True)
        for number, batch in enumerate(_endless(batches)):
            rate = _LOWEST * (_HIGHEST / _LOWEST) ** (number / (STEPS - 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss = objective(trial, Batch(*(value.to(device) for value in batch)), number=number, epoch=job.epochs)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            smooth = _MEMORY * smooth + (1 - _MEMORY) * loss.item()
            rates.append(rate)
            losses.append(smooth / (1 - _MEMORY ** (number + 1)))
            if not math.isfinite(smooth) or losses[-1] > _TOO_HIGH * min(losses) or number == STEPS - 1:
                break
    return RateTest(rates, losses, _steepest(rates, losses))


def _steepest(rates: list[float], losses: list[float]) -> float:
    """Of the finite losses but the first ten and the last five, as fastai leaves them out."""
    finite = [place for place, loss in enumerate(losses) if math.isfinite(loss)]
    places = finite[10:-5]
    if len(places) < 2:
        raise SettingsError(
            "params.yaml: train.learning_rate: auto found no rate at which the loss falls; give a number such as 0.001"
        )
    slope = np.gradient([losses[place] for place in places], np.log([rates[place] for place in places]))
    return rates[places[int(np.argmin(slope))]]


def _endless(batches: Iterable[Batch]) -> Iterable[Batch]:
    while True:
        yield from batches
