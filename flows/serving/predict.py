"""Classify images with a registered model or an ONNX file. Imports neither torch nor Prefect."""

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from components.data.files.find_images import STANDARD_INPUT, IgnoredFiles, count_images, find_images
from components.serving.batch_prediction import batch_size, predict
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.prediction_records import Columns, PredictionOptions, Record, prediction_columns
from components.serving.prediction_tables import (
    PredictionJob,
    Summary,
    check_target,
    record_of,
    table_columns,
    write_predictions,
)
from components.shared.errors import DataError, ServiceError, SettingsError
from components.shared.plural import counted
from flows.console.console import progress
from flows.console.tables import show_table
from flows.project.model_names import parse_version
from flows.project.outputs import Output
from flows.project.project import open_project
from flows.tracking import registry
from flows.tracking.ledger import CHAMPION, read_ledger
from flows.tracking.runs import Tracking, existing_registry

logger = logging.getLogger(__name__)

_SCHEME = "models:/"
_SHA256_SHOWN = 12


@dataclass(frozen=True)
class PredictedTable:
    """The table that was written or printed, and what it holds."""

    out: str | None
    """None where the predictions were printed."""
    images: int
    unreadable: int
    """Images that have a reason in the column error instead of a prediction."""
    model: str
    """models:/NAME/VERSION, or the file with the start of its SHA-256."""


def predict_files(
    sources: list[str],
    *,
    out: Path,
    model: str | None,
    options: PredictionOptions,
    workers: int | None = None,
    provider: str | None = None,
    overwrite: bool = False,
) -> PredictedTable:
    """Writes a row per image and reports which can't be read.

    Resumes an interrupted run. Raises DataError for sources without images, SettingsError where `out` would replace
    one of them or, without `overwrite`, another file of the user's.
    """
    check_target(out)
    output = Output(out, (*sources, *([model] if model is not None else [])), overwrite)
    output.check()
    lines = _StandardInput(sys.stdin.buffer, output) if STANDARD_INPUT in sources else ()
    classifier, name, columns = _opened(sources, model, options, provider)
    job = PredictionJob(
        target=out,
        columns=columns,
        plan={
            "model": classifier.sha256,
            "provider": classifier.provider,
            "name": name,
            "sources": sources,
            "options": asdict(options),
        },
        batch_size=batch_size(classifier),
    )
    total, ignored = count_images(sources), IgnoredFiles()
    summary = write_predictions(
        job,
        partial(find_images, sources, lines=lines, ignored=ignored),
        partial(predict, model=classifier, model_name=name, options=options, workers=workers),
        on_progress=lambda done: progress()("predict", done, total),
        check=output.check,
    )
    output.record()
    progress()("predict", summary.rows, summary.rows)
    _report(summary, ignored)
    return PredictedTable(str(out), summary.rows, summary.unreadable, name)


def print_predictions(
    sources: list[str],
    *,
    model: str | None,
    options: PredictionOptions,
    workers: int | None = None,
    provider: str | None = None,
) -> PredictedTable:
    """Prints a table on a terminal, and into a pipe a JSON object an image, each as soon as it is predicted."""
    lines = _StandardInput(sys.stdin.buffer, None) if STANDARD_INPUT in sources else ()
    classifier, name, columns = _opened(sources, model, options, provider)
    ignored = IgnoredFiles()
    images = find_images(sources, lines=lines, ignored=ignored)
    rows = (
        record_of(row, columns)
        for row in predict(images, classifier, model_name=name, options=options, workers=workers)
    )
    printed = _print_table(name, rows, columns) if sys.stdout.isatty() else _print_lines(rows)
    _report_ignored(ignored)
    return PredictedTable(None, len(printed), printed.count(False), name)


def _opened(
    sources: list[str], model: str | None, options: PredictionOptions, provider: str | None
) -> tuple[OnnxClassifier, str, Columns]:
    """The model, its name and the columns of its predictions; the sources and options are checked."""
    find_images(sources)
    classifier, name = open_model(model, threads=1, provider=provider)
    if classifier.fallback_reason is not None:
        logger.warning(classifier.fallback_reason)
    options.check(classifier.card)
    return classifier, name, table_columns(prediction_columns(classifier.card, options))


def _print_lines(rows: Iterable[Record]) -> list[bool]:
    """Whether each image could be read."""
    readable = []
    for row in rows:
        print(json.dumps(row, ensure_ascii=False), flush=True)
        readable.append(row["error"] is None)
    return readable


def _print_table(name: str, rows: Iterable[Record], columns: Columns) -> list[bool]:
    """The same, without columns that hold no value, and without those that the answer or a verdict says in words."""
    listed = list(rows)
    left_out = {"model", "ood", *(["ood_score"] if "out_of_distribution" in columns else [])}
    left_out |= {"out_of_distribution", "sure", "sure_of", "prediction_set"} if "answer" in columns else set()
    shown = [column for column in columns if column not in left_out and any(row[column] is not None for row in listed)]
    show_table(f"predictions of {name}", shown, [[_cell(row[column]) for column in shown] for row in listed])
    return [row["error"] is None for row in listed]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def open_model(
    model: str | None, *, threads: int = 0, provider: str | None = None, folder: Path | None = None
) -> tuple[OnnxClassifier, str]:
    """Opens an .onnx file or a registered version, by default the project's champion, and returns its name.

    The project is the one that the folder lies in, by default the working directory.

    The name identifies the version: models:/NAME/VERSION, or the file with the start of its SHA-256.
    """
    if model is not None and _is_file(model):
        classifier = OnnxClassifier(Path(model), threads=threads, provider=provider)
        return classifier, f"{model}@{classifier.sha256[:_SHA256_SHOWN]}"
    version, file = open_version(model, folder)
    classifier = OnnxClassifier(file, expected_sha256=version.sha256, threads=threads, provider=provider)
    return classifier, version_name(version)


def open_version(model: str | None, folder: Path | None = None) -> tuple[registry.Version, Path]:
    """The registered version and its ONNX file, by default the project's champion; creates nothing.

    Raises SettingsError if there is no such version, or if Darkroom did not register it, ServiceError where its file
    isn't the one that was registered, or where the ledger didn't make it the champion that it is called.
    """
    project = open_project(folder)
    from flows.project.params import read_params

    name = read_params(project.params).register.name
    alias_or_number = CHAMPION
    if model is not None:
        name, alias_or_number = parse_version(model, own=name)
    tracking = existing_registry(project)
    if tracking is None:
        raise SettingsError(f"{name} has no version yet; `darkroom run` makes one")
    version = registry.require_ours(registry.get_version(tracking, name, alias_or_number))
    _require_decided(tracking, version, is_champion=alias_or_number == CHAMPION)
    return version, registry.fetch_model(tracking, version)


def _require_decided(tracking: Tracking, version: registry.Version, *, is_champion: bool) -> None:
    """An alias can be moved by anybody, on MLflow's page too: only the ledger says who is champion.

    A version that is asked for by its number is opened whatever the gate said, with a word on that.
    """
    decisions = read_ledger(tracking, version.name)
    if is_champion and decisions.champion != version.number:
        serves = f"version {decisions.champion} serves" if decisions.champion else "no version was promoted"
        raise ServiceError(
            f"@{CHAMPION} of {version.name} is version {version.number}, but by the ledger {serves}; `darkroom "
            "promote` lets the gate decide, and moves the alias to where the ledger says"
        )
    verdict = decisions.status(version.number).verdict
    if verdict != "promoted" and decisions.champion != version.number:
        logger.warning(f"{version_name(version)} wasn't promoted: the gate's verdict is {verdict}")


def _is_file(model: str) -> bool:
    path = Path(model)
    return not model.startswith(_SCHEME) and (path.exists() or ("@" not in model and path.suffix != ""))


def version_name(version: registry.Version) -> str:
    return f"{_SCHEME}{version.name}/{version.number}"


class _StandardInput:
    """Lines of standard input, which can be read only once."""

    def __init__(self, stream: BinaryIO, output: Output | None) -> None:
        self._stream, self._output = stream, output
        self._was_read = False

    def __iter__(self) -> Iterator[str]:
        if self._was_read:
            raise DataError(
                "standard input lists other images than in the interrupted run; "
                "give the same list again, or choose another --out"
            )
        self._was_read = True
        return map(self._no_output, self._stream)

    def _no_output(self, line: bytes) -> str:
        source = os.fsdecode(line)
        if self._output is not None and self._output.reads(source.rstrip("\r\n")):
            raise SettingsError(
                f"--out {self._output.target}: is in the list on standard input; choose another name for the result"
            )
        return source


def _report(summary: Summary, ignored: IgnoredFiles) -> None:
    if summary.reused:
        logger.info(f"resumed: {counted(summary.reused, 'row')} reused from an interrupted run")
    for path, reason in summary.problems:
        logger.warning(f"unreadable: {path}: {reason}")
    if summary.unreadable > len(summary.problems):
        logger.info(f"and {summary.unreadable - len(summary.problems)} more; see the column `error`")
    _report_ignored(ignored)


def _report_ignored(ignored: IgnoredFiles) -> None:
    if ignored.count:
        files = counted(ignored.count, "file")
        logger.info(f"ignored {files} without an image extension, such as {', '.join(ignored.examples)}")
