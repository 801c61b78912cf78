"""Batch prediction: image files in, a row each out; a bad file is a row with its reason, never a gap."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from components.data.decoding import IMAGE_ENDINGS, UndecodableImage
from components.errors import DataError, SettingsError
from components.files import whole_file
from components.progress import Progress
from components.serving.classifier import OnnxClassifier

_BATCH = 64
FORMATS = (".csv", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Row:
    path: str
    label: str | None
    """None where the image could not be read."""
    probability: float | None
    error: str | None
    model: str


def find_images(paths: Iterable[str]) -> list[Path]:
    """Files as named and images below folders; raises DataError where a path is missing or there are none."""
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            below = (file for file in sorted(path.rglob("*")) if file.is_file())
            found += [file for file in below if file.suffix.lower() in IMAGE_ENDINGS]
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{text}: no such file or folder; give images or folders of images")
    if not found:
        raise DataError(f"no images below {', '.join(paths)}; expected {', '.join(IMAGE_ENDINGS)} files")
    return found


def predict(files: list[Path], model: OnnxClassifier, *, model_name: str, progress: Progress) -> Iterator[Row]:
    """A row a file, in order; decodes on all cores while memory holds a few batches."""
    done = 0
    waiting = iter(files)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while batch := list(islice(waiting, _BATCH)):
            squares = list(threads.map(lambda file: _square(model, file), batch))
            yield from _answer(batch, squares, model, model_name)
            done += len(batch)
            progress("predict", done, len(files))


def writer_for(target: Path) -> Callable[[Iterable[Row]], int]:
    """Writes rows to the file, whole or not at all, and counts them; raises SettingsError for another ending."""
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    ending = target.suffix.lower()
    if ending not in writers:
        raise SettingsError(
            f"--out {target.name}: the ending {ending or '(none)'} should be one of {', '.join(writers)}"
        )

    def write(rows: Iterable[Row]) -> int:
        with whole_file(target) as draft:
            return writers[ending](draft, rows)

    return write


def _square(model: OnnxClassifier, file: Path) -> Any:
    try:
        return model.square(file.read_bytes())
    except (UndecodableImage, OSError) as problem:
        return str(problem)


def _answer(files: list[Path], squares: list[Any], model: OnnxClassifier, model_name: str) -> Iterator[Row]:
    readable = [square for square in squares if not isinstance(square, str)]
    answers = iter(_winners(model, np.stack(readable)) if readable else [])
    for file, square in zip(files, squares, strict=True):
        # A file's name may be any bytes; a table holds text.
        path = os.fsencode(file).decode("utf-8", "backslashreplace")
        if isinstance(square, str):
            yield Row(path, None, None, square, model_name)
        else:
            label, probability = next(answers)
            yield Row(path, label, probability, None, model_name)


def _winners(model: OnnxClassifier, squares_BHWC: Any) -> list[tuple[str, float]]:
    space, rule = model.card.labels, model.card.answers
    logits_BT = model.logits(squares_BHWC)
    said = space.answers(logits_BT, rule)
    sure_B = space.confidence(space.probabilities(logits_BT, temperature=rule.temperature), said)
    return [(text, round(float(sure), 6)) for text, sure in zip(space.names(said), sure_B, strict=True)]


def _write_csv(draft: Path, rows: Iterable[Row]) -> int:
    count = 0
    with draft.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(Row.__annotations__))
        writer.writeheader()
        for row in rows:
            writer.writerow(asdict(row))
            count += 1
    return count


def _write_jsonl(draft: Path, rows: Iterable[Row]) -> int:
    count = 0
    with draft.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(draft: Path, rows: Iterable[Row]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    schema = pa.schema([("path", text), ("label", text), ("probability", number), ("error", text), ("model", text)])
    count = 0
    waiting = iter(rows)
    with pq.ParquetWriter(draft, schema) as writer:
        while block := list(islice(waiting, 10_000)):
            writer.write_table(pa.Table.from_pylist([asdict(row) for row in block], schema=schema))
            count += len(block)
    return count
