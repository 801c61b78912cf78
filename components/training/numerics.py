"""Precision, layout, compiling and the optimizer's form, chosen by what this machine can do and by the time of real
steps on it."""

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
from components.shared.errors import SettingsError
from components.training.distributed import device_here
from components.training.job_plan import Precision
from components.training.objective import Objective
from components.training.optimizers import new_optimizer
from components.training.settings import TrainingJob, TrainSettings

logger = logging.getLogger(__name__)

WORTH_MEASURING_SECONDS = 600.0
"""Below it a training ends before measuring has paid."""
_WORTH_COMPILING_SECONDS = 3600.0
_GAIN = 1.05
"""How much faster a choice must be than what it replaces."""
_TURNS = 2
"""In which a choice and what it replaces are timed one after the other; the better turn of each counts, so that a busy
moment of the machine doesn't choose."""
_WARMUP_STEPS, _STEPS = 1, 3
"""Of each turn."""


@dataclass(frozen=True)
class Numerics:
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    fused: bool = True
    """Whether the optimizer takes its step in one pass over each tensor."""

    def __str__(self) -> str:
        told = self.precision + ", channels last" * self.channels_last + ", compiled" * self.compile
        return told + ", optimizer not fused" * (not self.fused)


def bf16_is_in_hardware(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 by itself; others emulate it, many times slower."""
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
    """What the settings name; for `auto` the fastest of what this machine can do, if a training of so many steps is
    long enough to find out. Raises SettingsError for what the device can't do."""
    settings, device = job.train, device_here()
    if settings.precision == "fp16" and device.type == "cpu":
        raise SettingsError("params.yaml: train.precision: is fp16, which needs a GPU; use auto, fp32 or bf16")
    chosen = Numerics(
        "fp32" if settings.precision == "auto" else settings.precision,
        settings.channels_last == "on",
        settings.compile == "on",
    )
    if "auto" not in (settings.precision, settings.channels_last, settings.compile):
        return chosen
    seconds = {chosen: seconds_a_step(job, model, objective, batch, chosen, warmup=1, rounds=1)}
    whole = steps * seconds[chosen]
    if whole < WORTH_MEASURING_SECONDS:
        return chosen
    logger.info(f"this training takes about {whole / 60:.0f} minutes: measuring what makes it faster on this machine")
    for candidate in _candidates(settings, device, whole):
        trial = replace(chosen, **candidate)
        turns = [[seconds_a_step(job, model, objective, batch, one) for one in (chosen, trial)] for _ in range(_TURNS)]
        seconds[chosen], seconds[trial] = (min(took) for took in zip(*turns, strict=True))
        if seconds[chosen] >= _GAIN * seconds[trial]:
            chosen = trial
    told = "; ".join(f"{one}: {1000 * took:.1f} ms a step" for one, took in seconds.items())
    logger.info(
        f"{chosen} is chosen for this machine ({told}; a choice must be {_GAIN:g} times as fast as the one before)"
    )
    return chosen


def seconds_a_step(
    job: TrainingJob,
    model: ImageClassifier,
    objective: Objective,
    batch: Batch,
    numerics: Numerics,
    *,
    warmup: int = _WARMUP_STEPS,
    rounds: int = _STEPS,
) -> float:
    """Median over some steps of a copy of the model; the model and the random states stay as they are."""
    device = device_here()
    with torch.random.fork_rng():
        trial = copy.deepcopy(model).to(device).train()
        apply_numerics(trial.net, numerics)
        optimizer = new_optimizer(trial.net, job, learning_rate=1e-6, fused=numerics.fused)
        batch = Batch(*(value.to(device) for value in batch))
        took = []
        for number in range(warmup + rounds):
            started = _now(device)
            optimizer.zero_grad()
            with _autocast(numerics, device):
                # In the last epoch, where images have their full size.
                loss = objective(trial, batch, number=number, epoch=job.epochs)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            took.append(_now(device) - started)
    return median(took[warmup:])


def apply_numerics(net: nn.Module, numerics: Numerics) -> None:
    """Layout and compiling, in place; precision is the trainer's."""
    if numerics.channels_last:
        net.to(memory_format=torch.channels_last)
    if numerics.compile:
        net.compile()


def _candidates(settings: TrainSettings, device: torch.device, whole: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if settings.channels_last == "auto":
        found.append({"channels_last": True})
    if settings.precision == "auto":
        if bf16_is_in_hardware(device):
            found.append({"precision": "bf16"})
        elif device.type == "cuda":
            found.append({"precision": "fp16"})
    # On processors compiling took minutes and gained nothing in training.
    if settings.compile == "auto" and device.type == "cuda" and whole > _WORTH_COMPILING_SECONDS:
        found.append({"compile": True})
    found.append({"fused": False})
    return found


def _autocast(numerics: Numerics, device: torch.device) -> AbstractContextManager[object]:
    if numerics.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if numerics.precision == "bf16" else torch.float16)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
