"""One training over several processes: GPUs of this machine, or hosts that torchrun started."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from components.shared.errors import DataError, SettingsError
from components.training.settings import TrainSettings


def current_device() -> torch.device:
    """The device of this process."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one model together, as this one sees them."""

    world: int = 1
    rank: int = 0
    on_this_host: int = 1
    spawns_others: bool = False
    """Whether this process starts the others, as `train.devices` asks, rather than torchrun."""

    @property
    def is_leader(self) -> bool:
        """Whether this process reports and writes files."""
        return self.rank == 0


def process_group_of(settings: TrainSettings) -> ProcessGroup:
    """The group that torchrun's variables describe, else the one of the settings. Raises SettingsError where both
    disagree."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", started))
    rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
    if settings.devices == "auto":
        return ProcessGroup(started, rank, here)
    if started > 1 and settings.devices != here:
        raise SettingsError(
            f"params.yaml: train.devices: is {settings.devices}, but {here} processes were started on this host; "
            "set it to auto"
        )
    if torch.cuda.is_available() and settings.devices > torch.cuda.device_count():
        raise SettingsError(
            f"params.yaml: train.devices: is {settings.devices}, but this machine has {torch.cuda.device_count()} GPUs"
        )
    return ProcessGroup(
        max(started, settings.devices), rank, settings.devices, spawns_others=started == 1 and settings.devices > 1
    )


def check_batch(settings: TrainSettings, group: ProcessGroup, batch_size: int) -> None:
    """Raises SettingsError where the batch can't be divided evenly, with at least two images for each process."""
    if batch_size % group.world or batch_size < 2 * group.world:
        raise SettingsError(
            f"params.yaml: train.batch_size: {batch_size} images can't be divided among {group.world} processes; "
            f"give a multiple of {group.world}, {2 * group.world} or more"
        )


def check_images(count: int, group: ProcessGroup) -> None:
    """Raises DataError where the train split has fewer than the two images for each process that batch norm needs."""
    if count < 2 * group.world:
        training = "training" if group.world == 1 else f"training on {group.world} devices"
        images = "image" if count == 1 else "images"
        raise DataError(
            f"the train split holds {count} {images}, and {training} needs {2 * group.world}; change split.fractions "
            "or add images"
        )


def trainer_options(group: ProcessGroup, *, unfreezes: bool) -> dict[str, Any]:
    """Options of Lightning's Trainer: DDP by NCCL on GPUs and by gloo on CPUs; batch norms see the whole batch on GPUs.

    `unfreezes`: some layer groups learn later, so that DDP must look for parameters without a gradient in each step.
    """
    if group.world == 1:
        return {"accelerator": "auto", "devices": 1}
    from lightning.pytorch.strategies import DDPStrategy

    on_gpu = torch.cuda.is_available()
    return {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": group.on_this_host,
        "num_nodes": group.world // group.on_this_host,
        "strategy": DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo", find_unused_parameters=unfreezes),
        "sync_batchnorm": on_gpu,
        "use_distributed_sampler": False,
    }
