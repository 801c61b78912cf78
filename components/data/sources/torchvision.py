"""torchvision's classification data sets by name, such as `torchvision:CIFAR10` or `torchvision:Food101?root=/data`.

Files that a data set keeps on disk come in as they are; images that it keeps as pixels are stored as PNG. The author's
splits are kept. torchvision checks what it downloads by MD5.
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
from components.shared.errors import DataError, nearest

SCHEME = "torchvision:"
ROOT_VARIABLE = "DARKROOM_DATASETS"
"""The environment variable that names the folder for data sets; default: ~/.cache/darkroom/datasets."""

Splits = tuple[tuple[str | None, dict[str, Any]], ...]
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
    """Loads the data set from its root folder, or downloads it there; raises DataError where neither can be done."""
    check_name(location)
    name, _, query = location.removeprefix(SCHEME).partition("?")
    options = parse_qs(query)
    if set(options) - {"root"}:
        raise DataError(f"{location}: the only option is root, such as {SCHEME}{name}?root=/data")
    given = options.get("root", [os.environ.get(ROOT_VARIABLE) or "~/.cache/darkroom/datasets"])[0]
    root = Path(given).expanduser()
    images: list[SourceImage] = []
    for split, choice in _DATA_SETS[name]:
        images += _images(_load(name, root, choice), split)
    return Source(images)


def check_name(location: str) -> None:
    """Raises DataError for a data set that isn't known."""
    name = location.removeprefix(SCHEME).partition("?")[0]
    if name not in _DATA_SETS:
        raise DataError(f"{location}: unknown{nearest(name, _DATA_SETS) or '; known are ' + ', '.join(_DATA_SETS)}")


def _load(name: str, root: Path, choice: dict[str, Any]) -> Any:
    import torchvision

    kind = getattr(torchvision.datasets, name)
    if "loader" in inspect.signature(kind).parameters:
        choice = choice | {"loader": Path}
    # Not there, not whole or not readable: each data set has errors of its own for that.
    try:
        return kind(root=str(root), download=False, **choice)
    except Exception:
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        return kind(root=str(root), download=True, **choice)
    except Exception as problem:
        said = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(
            f"{SCHEME}{name}: is neither whole in {root} nor could it be downloaded ({said}); put torchvision's files "
            f"there, or name their folder: {SCHEME}{name}?root=FOLDER or {ROOT_VARIABLE}=FOLDER"
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
    """The image files, in order of their names, or none where it keeps pixels; and the class numbers."""
    if len(data) and "loader" in inspect.signature(type(data)).parameters:
        # Some list their files in the order of the file system, which differs from machine to machine.
        pairs = sorted(data[number] for number in range(len(data)))
        return [file for file, _ in pairs], [int(target) for _, target in pairs]
    targets: Sequence[int] = next(
        getattr(data, name) for name in ("targets", "labels", "_labels") if hasattr(data, name)
    )
    # OxfordIIITPet takes no loader and would decode its files.
    return list(getattr(data, "_images", ())), [int(target) for target in targets]


def _png(data: Any, number: int) -> bytes:
    image, _ = data[number]
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
