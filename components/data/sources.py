"""Where images come from: a folder a class, a table of paths and labels, or the embedded digits.

A source is listed before anything is read, so that mistakes are named before anything is written. Every file that
stands where an image belongs is listed; one that can't be taken carries the reason and goes to quarantine.
"""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from components.data.decoding import IMAGE_ENDINGS
from components.errors import DataError, nearest

EMBEDDED_DIGITS = "digits"
PARTS_BY_FOLDER = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_TABLE_ENDINGS = (".csv", ".parquet")
_TABLE_COLUMNS = ("path", "label", "group", "split")
_DIGIT_SIDE_PX = 32


@dataclass(frozen=True)
class SourceImage:
    path: str
    """Relative to the source, with forward slashes; unique in it."""
    label: str
    read: Callable[[], bytes]
    group: str | None = None
    """Images of one group never stand in two parts."""
    given_split: str | None = None
    """train, val or test where the author of the data has chosen."""
    problem: str | None = None
    """Why the file can't be taken; it is quarantined unread."""


@dataclass(frozen=True)
class Source:
    images: list[SourceImage]
    left_aside: list[str] = field(default_factory=list)
    """Files outside the class folders, such as a licence."""


def find(location: str) -> Source:
    """Lists a folder, a CSV or Parquet table, or the embedded digits; raises DataError where it makes no data set."""
    path = Path(location).expanduser()
    if location == EMBEDDED_DIGITS and not path.exists():
        source = _digits()
    elif not path.exists():
        raise DataError(f"{location}: no such folder or table; give --data an existing one")
    elif path.is_dir():
        source = _from_folder(path)
    elif path.suffix.lower() in _TABLE_ENDINGS:
        source = _from_table(path)
    else:
        raise DataError(f"{location}: is neither a folder nor a table ({', '.join(_TABLE_ENDINGS)})")
    _refuse_useless(source, location)
    return source


def _refuse_useless(source: Source, location: str) -> None:
    usable = [image for image in source.images if image.problem is None]
    if not usable:
        raise DataError(
            f"{location}: no images in it; expected one folder a class with {', '.join(IMAGE_ENDINGS)} files"
        )
    labels = {image.label for image in usable}
    if len(labels) < 2:
        raise DataError(f"{location}: only one class ({labels.pop()}); a classifier needs at least two")


def _digits() -> Source:
    """scikit-learn's handwritten digits: 1,797 scans of 8×8 px and 17 grey levels, enlarged to 32×32 px."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    def png(scan_HW: "np.ndarray") -> bytes:
        grey = Image.fromarray((scan_HW * 255 / 16).round().astype(np.uint8))
        stream = io.BytesIO()
        grey.resize((_DIGIT_SIDE_PX, _DIGIT_SIDE_PX), Image.Resampling.BICUBIC).save(stream, "PNG")
        return stream.getvalue()

    digits = load_digits()
    return Source(
        [
            SourceImage(path=f"{label}/{number:04d}.png", label=str(label), read=partial(png, scan))
            for number, (scan, label) in enumerate(zip(digits.images, digits.target, strict=True))
        ]
    )


def _from_folder(root: Path) -> Source:
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    with_parts = bool(folders) and all(name.lower() in PARTS_BY_FOLDER for name in folders)
    class_depth = 2 if with_parts else 1
    images, left_aside = [], []
    for path in _files_below(root):
        parts = PurePosixPath(path).parts
        if len(parts) <= class_depth:
            left_aside.append(path)
            continue
        images.append(
            SourceImage(
                path=path,
                label=parts[class_depth - 1],
                given_split=PARTS_BY_FOLDER[parts[0].lower()] if with_parts else None,
                read=(root / path).read_bytes,
                problem=_problem_of(root, path),
            )
        )
    return Source(images, left_aside)


def _files_below(root: Path) -> Iterator[str]:
    """Relative paths in order, hidden files left out; a link to a folder counts as a file, for it isn't followed."""
    found = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in links and not name.startswith(".")]
        for name in files + links:
            if not name.startswith("."):
                found.append((Path(folder) / name).relative_to(root).as_posix())
    yield from sorted(found)


def _problem_of(root: Path, path: str) -> str | None:
    file = root / path
    if not file.resolve().is_relative_to(root.resolve()):
        return "a link that leads out of the data folder"
    if not file.exists():
        return "the file is missing" if not file.is_symlink() else "a link that leads nowhere"
    if not file.is_file():
        return "not a plain file"
    if file.suffix.lower() not in IMAGE_ENDINGS:
        return f"the ending {file.suffix or '(none)'} is of no image format that is read"
    return None


def _from_table(table: Path) -> Source:
    rows = _rows_of(table)
    root, seen = table.parent, dict[str, int]()
    images = []
    for number, row in enumerate(rows, start=1):
        path, label = _path_in_row(row["path"], table, number), row["label"]
        if label is None or not str(label).strip():
            raise DataError(f"{table.name}: row {number}: the label is empty; fill it or remove the row")
        if path in seen:
            raise DataError(f"{table.name}: row {number}: {path} stands in row {seen[path]} already; keep one of them")
        seen[path] = number
        images.append(
            SourceImage(
                path=path,
                label=str(label),
                group=_text(row.get("group")),
                given_split=_split_in_row(row.get("split"), table, number),
                read=(root / path).read_bytes,
                problem=_problem_of(root, path),
            )
        )
    return Source(sorted(images, key=lambda image: image.path))


def _rows_of(table: Path) -> list[dict[str, object]]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if table.suffix.lower() == ".csv":
            # Every column as text: a label such as 007 is a name, not a number.
            columns = pyarrow.csv.open_csv(table).schema.names
            as_text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
            content = pyarrow.csv.read_csv(table, convert_options=as_text)
        else:
            content = pyarrow.parquet.read_table(table)
    except (pa.ArrowInvalid, OSError) as problem:
        raise DataError(f"{table.name}: can't be read as a table: {problem}") from None
    names = content.column_names
    for required in ("path", "label"):
        if names.count(required) != 1:
            raise DataError(f"{table.name}: {_column_problem(required, names)}")
    rows: list[dict[str, object]] = content.select([name for name in _TABLE_COLUMNS if name in names]).to_pylist()
    return rows


def _column_problem(required: str, names: list[str]) -> str:
    if required in names:
        return f"column {required} stands there {names.count(required)} times; keep one"
    similar = nearest(required, [name for name in names if name not in _TABLE_COLUMNS])
    remedy = f"rename {similar.split()[-1].rstrip('?')}" if similar else "add it"
    return f"column {required} is missing; {remedy} (the columns are {', '.join(names)})"


def _path_in_row(value: object, table: Path, number: int) -> str:
    path = PurePosixPath(str(value or ""))
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{table.name}: row {number}: {value!r} isn't a path inside {table.parent}; make it relative to there"
        )
    return path.as_posix()


def _split_in_row(value: object, table: Path, number: int) -> str | None:
    if (text := _text(value)) is None:
        return None
    if text.lower() not in PARTS_BY_FOLDER:
        raise DataError(f"{table.name}: row {number}: split {text!r} is none of {', '.join(PARTS_BY_FOLDER)}")
    return PARTS_BY_FOLDER[text.lower()]


def _text(value: object) -> str | None:
    return None if value is None or not str(value).strip() else str(value)
