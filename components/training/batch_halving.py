"""A batch that the memory doesn't hold: known by its error, and halved where that is asked for."""

import logging
import shutil
from pathlib import Path

import torch

from components.shared.errors import SettingsError
from components.training.job_plan import read_plan, write_plan
from components.training.resume import identity_of
from components.training.settings import TrainingJob

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
HISTORY = "history.json"
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")


def is_out_of_memory(problem: BaseException) -> bool:
    """torch has a kind of error for GPUs, and two sentences for the processor's memory, by system."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(told in str(problem) for told in _OUT_OF_MEMORY)


def too_little_memory(job: TrainingJob, halvings: int) -> SettingsError:
    return SettingsError(
        f"the device has too little memory; lower train.batch_size (now {job.train.batch_size >> halvings}), or set "
        "train.halve_batch_on_oom or train.activation_checkpointing to true"
    )


def halved(job: TrainingJob, halvings: int, *, world: int) -> int:
    """Lets the next attempt of `world` processes begin anew with half the batch; how often it is halved by then.

    Raises SettingsError where that isn't wanted, or half a batch can't be shared.
    """
    output = Path(job.output)
    plan = read_plan(output, identity_of(job))
    halvings = plan.halvings if plan is not None else halvings
    size = job.train.batch_size >> halvings
    half = size // 2
    if not job.train.halve_batch_on_oom or half < 2 * world or (world > 1 and half % world):
        raise too_little_memory(job, halvings)
    logger.info(f"{size} images don't fit the memory: going on with {half} at a time, twice as many times a step")
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    (output / HISTORY).unlink(missing_ok=True)
    if plan is not None:
        write_plan(plan.model_copy(update={"halvings": halvings + 1}), output)
    return halvings + 1
