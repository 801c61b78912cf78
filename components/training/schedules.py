"""Learning-rate schedules of torch, stepped after each optimizer step.

Each scales the peak rate of every parameter group alike, so layer groups keep their ratios.
"""

import math
from itertools import pairwise
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from components.shared.errors import SettingsError

Schedule = Literal["cosine", "step", "plateau", "one_cycle", "cyclic", "constant"]

_DROP = 0.1


def new_scheduler(optimizer: Optimizer, schedule: Schedule, *, steps: int, warmup: int, cycles: int) -> LRScheduler:
    """A schedule of `steps` steps, the first `warmup` of them linear (one_cycle has its own warm-up).

    `plateau` is constant here; `new_plateau` lowers the rate.
    """
    match schedule:
        case "cosine":
            return _cosines(optimizer, warmup, [steps])
        case "cyclic":
            # Huang et al. 2017: a snapshot is taken at the end of each cosine.
            return _cosines(optimizer, warmup, cycle_ends(steps, cycles))
        case "step":
            thirds = [math.ceil(steps / 3), math.ceil(2 * steps / 3)]
            return ChainedScheduler([_warmup(optimizer, warmup), MultiStepLR(optimizer, thirds, _DROP)])
        case "one_cycle":
            peaks = [group["lr"] for group in optimizer.param_groups]
            return OneCycleLR(optimizer, peaks, total_steps=steps + 1, cycle_momentum=False)
        case "plateau" | "constant":
            return _warmup(optimizer, warmup)


def new_plateau(optimizer: Optimizer, patience: int) -> ReduceLROnPlateau:
    """Lowers the rate to a tenth whenever `patience` validation losses in a row are no better than the best.

    Stepped by the learner: Lightning would step it after the epoch's checkpoint is written, and lose that on a resume.
    """
    return ReduceLROnPlateau(optimizer, factor=_DROP, patience=patience - 1, threshold=0.0, eps=0.0)


def cycle_ends(steps: int, cycles: int) -> list[int]:
    """The step after which each cycle ends, the last one with the training.

    Raises SettingsError where there are fewer steps than cycles.
    """
    if steps < cycles:
        raise SettingsError(
            f"params.yaml: train.cycles: is {cycles}, but the whole training has {steps} steps; give fewer cycles, or "
            "more epochs"
        )
    return [round(number * steps / cycles) for number in range(1, cycles + 1)]


def _warmup(optimizer: Optimizer, steps: int) -> LinearLR:
    return LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)


def _cosines(optimizer: Optimizer, warmup: int, ends: list[int]) -> LRScheduler:
    """A warm-up, then cosines to zero, each from the peak to its end."""
    warmup = min(warmup, ends[0] - 1)
    cosines = [CosineAnnealingLR(optimizer, end - start) for start, end in pairwise([warmup, *ends])]
    if not warmup:
        return SequentialLR(optimizer, [*cosines], ends[:-1])
    return SequentialLR(optimizer, [_warmup(optimizer, warmup), *cosines], [warmup, *ends[:-1]])
