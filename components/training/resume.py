"""Resuming an interrupted training: the fingerprint of its checkpoints, and the position in its data."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from components.data.packed.loaders import Batch
from components.data.packed.packing import DATASET, INDEX
from components.shared.errors import SettingsError
from components.shared.files import sha256_of_file
from components.training.settings import TrainingJob

_CHANGEABLE = (
    "train.loader_workers",
    "train.checkpoint_minutes",
    "train.time_limit_minutes",
    "train.halve_batch_on_oom",
)
"""Settings that don't change what a training learns; they may differ when it is resumed."""
_SHOWN = 4

Fingerprint = dict[str, Any]


class ResumableBatches:
    """A training loader that starts anywhere in an epoch.

    The position is read with the first batch: Lightning makes its iterator before it knows the epoch.
    """

    def __init__(self, loader: DataLoader[Batch], position: Callable[[], tuple[int, int]]) -> None:
        self._loader, self._position = loader, position

    def __len__(self) -> int:
        return len(self._loader.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        self._loader.sampler.begin_at(*self._position())  # type: ignore[attr-defined]
        yield from self._loader


def fingerprint_of(job: TrainingJob) -> Fingerprint:
    """What the weights of a training depend on: hashes of its data, and its settings by name."""
    folder = Path(job.data)
    values = _flat("", job.model_dump(exclude={"data", "output", "decoded"}))
    return {
        "data": [sha256_of_file(folder / name) for name in (DATASET, INDEX)],
        "settings": {name: value for name, value in values.items() if name not in _CHANGEABLE},
    }


def refuse_other_fingerprint(checkpoint: Fingerprint, job: Fingerprint, folder: Path) -> None:
    """Raises SettingsError where a checkpoint belongs to other data or settings than the job."""
    if checkpoint["data"] != job["data"]:
        raise SettingsError(f"{folder} holds a checkpoint made with other data; give the job another output folder")
    then, now = checkpoint["settings"], job["settings"]
    changed = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    if changed:
        differences = ", ".join(f"{name} was {then.get(name)}, is {now.get(name)}" for name in changed[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise SettingsError(
            f"{folder} holds a checkpoint made with other settings ({differences}{more}); "
            "set them back, or give the job another output folder"
        )


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in _flat(f"{prefix}.{key}" if prefix else str(key), inner).items()
    }
