"""Corrected labels: the table that people fill in, read and checked, and applied to the manifest."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.shared.errors import DataError, SettingsError, nearest
from components.task.single_label import SingleLabel
from components.task.task import Task


@dataclass(frozen=True)
class Correction:
    path: str
    label: str
    """Label of the source."""
    corrected: str


def read_corrections(file: Path, labels: dict[str, str], task: type[Task] = SingleLabel) -> list[Correction]:
    """The filled-in rows of a table of suspects; `labels` has the label of each path.

    The column `corrected` holds a class; in a hierarchy the full path, such as Fruit/Apple/Gala; in multi-label data
    all labels of the image, such as cat|dog, in any order.

    Raises SettingsError where the file is missing or unreadable, DataError for an unknown path or label, or where the
    image's label has changed since the table was written.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(f"labels.corrections: {file} isn't there; put the file there or set it to null") from None
    except OSError as problem:
        raise SettingsError(f"labels.corrections: {file} can't be read: {problem.strerror}; name a CSV file") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not UTF-8; save it as CSV with UTF-8") from None
    try:
        return _corrections_of(csv.DictReader(io.StringIO(text, newline="")), file, labels, task)
    except csv.Error as problem:
        raise DataError(f"{file}: can't be read as a table: {problem}; fix its quotes") from None


def _corrections_of(
    reader: "csv.DictReader[str]", file: Path, labels: dict[str, str], task: type[Task]
) -> list[Correction]:
    missing = [name for name in ("path", "corrected") if name not in (reader.fieldnames or [])]
    if missing:
        raise DataError(f"{file}: lacks the column {missing[0]}; its first line should name path and corrected")
    known = {name for label in set(labels.values()) for name in task.classes_in(label)}
    corrections: dict[str, Correction] = {}
    for row in reader:
        # Not the row's number: there are empty lines, and quoted values that span several lines.
        where = f"{file}: line {reader.line_num}"
        if None in row:
            raise DataError(f"{where}: holds more values than there are columns; put a text with a comma in quotes")
        path, corrected = row["path"] or "", (row["corrected"] or "").strip()
        if corrected:
            correction = _checked(where, path, _canonical(corrected, task, known, where), row.get("label"), labels)
            if corrections.setdefault(path, correction) != correction:
                raise DataError(f"{where}: {path} is corrected twice, differently; keep one of the lines")
    return [correction for _, correction in sorted(corrections.items()) if correction.label != correction.corrected]


def _canonical(corrected: str, task: type[Task], known: set[str], where: str) -> str:
    """The label as the data writes it; raises DataError for one that no image has."""
    names = [name for name in task.classes_in(corrected) if name]
    for name in names:
        if name not in known:
            hint = task.hint(name, known) or nearest(name, known)
            raise DataError(f"{where}: no image has the label {name!r}{hint}; fix the line")
    if not names:
        raise DataError(f"{where}: {corrected!r} holds no label; name at least one, such as {min(known)}")
    return task.text_of(names)


def _checked(where: str, path: str, corrected: str, listed: str | None, labels: dict[str, str]) -> Correction:
    if path not in labels:
        raise DataError(f"{where}: no image has the path {path!r}{nearest(path, labels)}; fix or remove the line")
    if listed and listed not in (labels[path], corrected):
        raise DataError(f"{where}: {path} is labelled {labels[path]!r} by now, not {listed!r}; look at it again")
    return Correction(path, labels[path], corrected)


def apply_corrections(table: pa.Table, corrections: list[Correction], task: type[Task]) -> pa.Table:
    """The manifest with the corrected labels in `label` and `labels`.

    The labels of the source stay in `ingested_label` and `ingested_labels`: the split is stratified by them, so that a
    correction moves no image.
    """
    corrected = {correction.path: correction.corrected for correction in corrections}
    names = {path: task.labels_of(label) for path, label in corrected.items()}
    paths = table["path"].to_pylist()
    for column, values in (("label", corrected), ("labels", names)):
        if corrections and column in table.column_names:
            table = table.append_column(f"ingested_{column}", table[column])
            index = table.column_names.index(column)
            new = [values.get(path, old) for path, old in zip(paths, table[column].to_pylist(), strict=True)]
            table = table.set_column(index, table.schema.field(column), pa.array(new, table.schema.field(column).type))
    return table
