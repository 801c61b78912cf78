"""Out of memory: recognized by its error, and answered with half the batch where the settings allow it."""

import logging
import shutil
from pathlib import Path

import torch

from components.shared.errors import SettingsError
from components.training.job_plan import read_plan, write_plan
from components.training.resume import fingerprint_of
from components.training.settings import TrainingJob

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
HISTORY = "history.json"
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an error means too little memory: torch has a class of error for GPUs, and two messages for the CPU's."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(message in str(problem) for message in _OUT_OF_MEMORY)


def out_of_memory_error(job: TrainingJob, halvings: int) -> SettingsError:
    return SettingsError(
        f"the device has too little memory; lower train.batch_size (now {job.train.batch_size >> halvings}), or set "
        "train.halve_batch_on_oom or train.activation_checkpointing to true"
    )


def halve_batch(job: TrainingJob, halvings: int, *, world: int) -> int:
    """Prepares a restart of `world` processes with half the batch; returns how often it has been halved by then.

    Raises SettingsError where the settings don't allow it, or half a batch can't be divided among the processes.
    """
    output = Path(job.output)
    plan = read_plan(output, fingerprint_of(job))
    halvings = plan.halvings if plan is not None else halvings
    size = job.train.batch_size >> halvings
    half = size // 2
    if not job.train.halve_batch_on_oom or half < 2 * world or (world > 1 and half % world):
        raise out_of_memory_error(job, halvings)
    logger.info(f"a batch of {size} images doesn't fit into memory: restart with {half}, accumulated twice as often")
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    (output / HISTORY).unlink(missing_ok=True)
    if plan is not None:
        write_plan(plan.model_copy(update={"halvings": halvings + 1}), output)
    return halvings + 1
