"""torchvision's classification data sets by name, such as `torchvision:CIFAR10` or `torchvision:Food101?root=/data`.

Image files of a data set are ingested as they are; images that it stores as pixels become PNG. Its own splits are kept.
torchvision checks downloads by MD5.
"""

import inspect
import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from components.data.sources.source import Source, SourceImage
from components.data.sources.table import one_line
from components.shared.errors import DataError, nearest

SCHEME = "torchvision:"
ROOT_VARIABLE = "DARKROOM_DATASETS"
"""Environment variable with the folder for data sets; default: ~/.cache/darkroom/datasets."""

Splits = tuple[tuple[str | None, dict[str, Any]], ...]
"""Each split with the arguments that load it; None for a data set without splits."""
_TRAIN_AND_TEST: Splits = (("train", {"train": True}), ("test", {"train": False}))
_SPLIT_TRAIN_TEST: Splits = (("train", {"split": "train"}), ("test", {"split": "test"}))
_SPLIT_ALL: Splits = (("train", {"split": "train"}), ("val", {"split": "val"}), ("test", {"split": "test"}))
_WHOLE: Splits = ((None, {}),)
_DATA_SETS: dict[str, Splits] = {
    "CIFAR10": _TRAIN_AND_TEST,
    "CIFAR100": _TRAIN_AND_TEST,
    "Country211": (("train", {"split": "train"}), ("val", {"split": "valid"}), ("test", {"split": "test"})),
    "DTD": _SPLIT_ALL,
    "EuroSAT": _WHOLE,
    "FGVCAircraft": _SPLIT_ALL,
    "FashionMNIST": _TRAIN_AND_TEST,
    "Flowers102": _SPLIT_ALL,
    "Food101": _SPLIT_TRAIN_TEST,
    "KMNIST": _TRAIN_AND_TEST,
    "MNIST": _TRAIN_AND_TEST,
    "OxfordIIITPet": (("train", {"split": "trainval"}), ("test", {"split": "test"})),
    "RenderedSST2": _SPLIT_ALL,
    "STL10": _SPLIT_TRAIN_TEST,
    "SUN397": _WHOLE,
    "SVHN": _SPLIT_TRAIN_TEST,
    "StanfordCars": _SPLIT_TRAIN_TEST,
    "USPS": _TRAIN_AND_TEST,
}


def from_torchvision(location: str) -> Source:
    """Loads the data set from its root folder, or downloads it to there; raises DataError if both fail."""
    check_name(location)
    name, _, query = location.removeprefix(SCHEME).partition("?")
    options = parse_qs(query)
    if set(options) - {"root"}:
        raise DataError(f"{location}: the only option is root, such as {SCHEME}{name}?root=/data")
    root = options.get("root", [os.environ.get(ROOT_VARIABLE) or "~/.cache/darkroom/datasets"])[0]
    images: list[SourceImage] = []
    for split, arguments in _DATA_SETS[name]:
        images += _images(_load(name, Path(root).expanduser(), arguments), split)
    return Source(images)


def check_name(location: str) -> None:
    """Raises DataError for an unknown data set."""
    name = location.removeprefix(SCHEME).partition("?")[0]
    if name not in _DATA_SETS:
        raise DataError(f"{location}: unknown{nearest(name, _DATA_SETS) or '; known are ' + ', '.join(_DATA_SETS)}")


def _load(name: str, root: Path, arguments: dict[str, Any]) -> Any:
    import torchvision

    data_set = getattr(torchvision.datasets, name)
    if "loader" in inspect.signature(data_set).parameters:
        arguments = arguments | {"loader": Path}
    # Missing, incomplete or unreadable: each data set has its own errors for that.
    try:
        return data_set(root=str(root), download=False, **arguments)
    except Exception:
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        return data_set(root=str(root), download=True, **arguments)
    except Exception as problem:
        raise DataError(
            f"{SCHEME}{name}: is not complete in {root} and can't be downloaded ({one_line(problem)}); put "
            f"torchvision's files there, or name their folder: {SCHEME}{name}?root=FOLDER or {ROOT_VARIABLE}=FOLDER"
        ) from None


def _images(data: Any, split: str | None) -> list[SourceImage]:
    folder = f"{split}/" if split else ""
    files, targets = _files_and_targets(data)
    classes = getattr(data, "classes", None)
    digits = len(str(max(len(targets) - 1, 0)))
    images = []
    for number, target in enumerate(targets):
        file = files[number] if files else None
        images.append(
            SourceImage(
                path=f"{folder}{number:0{digits}d}{file.suffix.lower() if file else '.png'}",
                labels=(str(classes[target]) if classes else str(target),),
                given_split=split,
                read=file.read_bytes if file else partial(_png, data, number),
            )
        )
    return images


def _files_and_targets(data: Any) -> tuple[list[Path], list[int]]:
    """The image files in order of their names, or none if the data set stores pixels; and the class numbers."""
    if len(data) and "loader" in inspect.signature(type(data)).parameters:
        # Some data sets list their files in the order of the file system, which differs between machines.
        pairs = sorted(data[number] for number in range(len(data)))
        return [file for file, _ in pairs], [int(target) for _, target in pairs]
    targets: Sequence[int] = next(
        getattr(data, name) for name in ("targets", "labels", "_labels") if hasattr(data, name)
    )
    # OxfordIIITPet has no parameter `loader` and would decode its files.
    return list(getattr(data, "_images", ())), [int(target) for target in targets]


def _png(data: Any, number: int) -> bytes:
    image, _ = data[number]
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
