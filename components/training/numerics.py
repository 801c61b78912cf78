"""Precision, memory layout, compilation and fused optimizer, chosen by measuring training steps on this machine."""

import copy
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from components.data.packed.loaders import Batch
from components.models.classifier import ImageClassifier
from components.records.training_plan import Precision
from components.shared.errors import SettingsError
from components.training.distributed import current_device
from components.training.objective import Objective
from components.training.optimizers import new_optimizer
from components.training.settings import TrainingJob, TrainSettings

logger = logging.getLogger(__name__)

WORTH_MEASURING_SECONDS = 600.0
"""Length of a training from which on measuring pays."""
_WORTH_COMPILING_SECONDS = 3600.0
_GAIN = 1.05
"""Speed-up that a choice must reach over what it replaces."""
_ROUNDS = 2
"""Rounds in which a choice and what it replaces are timed one after the other; the better round of each counts, so that
a busy moment of the machine doesn't decide."""
_WARMUP_STEPS, _STEPS = 1, 3
"""Steps of each round."""


@dataclass(frozen=True)
class Numerics:
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    fused: bool = True
    """Whether the optimizer updates each tensor in one fused operation."""

    def __str__(self) -> str:
        text = self.precision + ", channels last" * self.channels_last + ", compiled" * self.compile
        return text + ", optimizer not fused" * (not self.fused)


def bf16_is_in_hardware(device: torch.device) -> bool:
    """Whether the device computes in bf16 natively; others emulate it, many times slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_numerics(
    job: TrainingJob,
    model: ImageClassifier,
    objective: Objective,
    batch: Batch,
    *,
    steps: int,
) -> Numerics:
    """The numerics of the settings; for `auto` the fastest on this machine, if `steps` steps are worth measuring.

    Raises SettingsError for what the device can't do.
    """
    settings, device = job.train, current_device()
    if settings.precision == "fp16" and device.type == "cpu":
        raise SettingsError("params.yaml: train.precision: is fp16, which needs a GPU; use auto, fp32 or bf16")
    chosen = Numerics(
        "fp32" if settings.precision == "auto" else settings.precision,
        settings.channels_last == "on",
        settings.compile == "on",
    )
    if "auto" not in (settings.precision, settings.channels_last, settings.compile):
        return chosen
    seconds = {chosen: seconds_per_step(job, model, objective, batch, chosen, warmup=1, rounds=1)}
    whole = steps * seconds[chosen]
    if whole < WORTH_MEASURING_SECONDS:
        return chosen
    logger.info(f"training takes about {whole / 60:.0f} minutes: measuring what is fastest on this machine")
    for candidate in _candidates(settings, device, whole):
        trial = replace(chosen, **candidate)
        rounds = [
            [seconds_per_step(job, model, objective, batch, one) for one in (chosen, trial)] for _ in range(_ROUNDS)
        ]
        seconds[chosen], seconds[trial] = (min(took) for took in zip(*rounds, strict=True))
        if seconds[chosen] >= _GAIN * seconds[trial]:
            chosen = trial
    times = "; ".join(f"{one}: {1000 * took:.1f} ms a step" for one, took in seconds.items())
    logger.info(
        f"{chosen} is fastest on this machine ({times}; a choice must be {_GAIN:g} times as fast as the one before)"
    )
    return chosen


def seconds_per_step(
    job: TrainingJob,
    model: ImageClassifier,
    objective: Objective,
    batch: Batch,
    numerics: Numerics,
    *,
    warmup: int = _WARMUP_STEPS,
    rounds: int = _STEPS,
) -> float:
    """Median over steps of a copy of the model; the model and the random states stay as they are."""
    device = current_device()
    with torch.random.fork_rng():
        trial = copy.deepcopy(model).to(device).train()
        apply_numerics(trial.net, numerics)
        optimizer = new_optimizer(trial.net, job, learning_rate=1e-6, fused=numerics.fused)
        batch = Batch(*(value.to(device) for value in batch))
        times = []
        for number in range(warmup + rounds):
            started = _now(device)
            optimizer.zero_grad()
            with _autocast(numerics, device):
                # In the last epoch, where images have their full size.
                loss = objective(trial, batch, number=number, epoch=job.epochs)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            times.append(_now(device) - started)
    return median(times[warmup:])


def apply_numerics(net: nn.Module, numerics: Numerics) -> None:
    """Applies layout and compilation in place; the trainer applies precision."""
    if numerics.channels_last:
        net.to(memory_format=torch.channels_last)
    if numerics.compile:
        net.compile()


def _candidates(settings: TrainSettings, device: torch.device, whole: float) -> list[dict[str, Any]]:
    candidates: list[dict[str, Any]] = []
    if settings.channels_last == "auto":
        candidates.append({"channels_last": True})
    if settings.precision == "auto":
        if bf16_is_in_hardware(device):
            candidates.append({"precision": "bf16"})
        elif device.type == "cuda":
            candidates.append({"precision": "fp16"})
    # On processors compiling took minutes and gained nothing in training.
    if settings.compile == "auto" and device.type == "cuda" and whole > _WORTH_COMPILING_SECONDS:
        candidates.append({"compile": True})
    candidates.append({"fused": False})
    return candidates


def _autocast(numerics: Numerics, device: torch.device) -> AbstractContextManager[object]:
    if numerics.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if numerics.precision == "bf16" else torch.float16)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
