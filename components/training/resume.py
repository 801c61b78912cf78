"""Going on where a training was cut off: what a checkpoint belongs to, and where in the data it stands."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from components.data.packed.loaders import Batch
from components.data.packed.packing import DATASET, INDEX
from components.shared.errors import SettingsError
from components.shared.files import sha256_of_file
from components.training.settings import TrainingJob

_FREE = ("train.loader_workers", "train.checkpoint_minutes", "train.time_limit_minutes", "train.halve_batch_on_oom")
"""Settings that rule how long and how a training runs, not what it learns: they may change while it is cut off."""
_SHOWN = 4

Identity = dict[str, Any]


class ResumableBatches:
    """A training loader that begins anywhere in an epoch.

    The place is asked for when the first batch is: Lightning makes its iterator before it knows the epoch.
    """

    def __init__(self, loader: DataLoader[Batch], place: Callable[[], tuple[int, int]]) -> None:
        self._loader, self._place = loader, place

    def __len__(self) -> int:
        return len(self._loader.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        self._loader.sampler.begin_at(*self._place())  # type: ignore[attr-defined]
        yield from self._loader


def identity_of(job: TrainingJob) -> Identity:
    """What the weights of a training depend on: a digest of its data, and its settings by name."""
    folder = Path(job.data)
    values = _flat("", job.model_dump(exclude={"data", "output", "decoded"}))
    return {
        "data": [sha256_of_file(folder / name) for name in (DATASET, INDEX)],
        "settings": {name: value for name, value in values.items() if name not in _FREE},
    }


def refuse_other_identity(checkpoint: Identity, job: Identity, folder: Path) -> None:
    """Raises SettingsError where a checkpoint is of other data or other settings than the job."""
    if checkpoint["data"] != job["data"]:
        raise SettingsError(f"{folder} holds a checkpoint of other data; give the job another output folder")
    then, now = checkpoint["settings"], job["settings"]
    changed = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    if changed:
        told = ", ".join(f"{name} was {then.get(name)}, is {now.get(name)}" for name in changed[:_SHOWN])
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise SettingsError(
            f"{folder} holds a checkpoint of other settings ({told}{more}); "
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
