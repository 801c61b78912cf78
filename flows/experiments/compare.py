"""Compare architectures and registered versions: trained alike, exported, and measured on the same images."""

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from prefect import flow

from components.shared.errors import DarkroomError, DataError, ServiceError, SettingsError
from components.shared.files import sha256_of_record
from flows.console.tables import show_table
from flows.project.image_files import image_files
from flows.project.model_names import is_version, parse_version
from flows.project.outputs import Output
from flows.registry.lineage import known_images
from flows.session.preflight import check_architecture
from flows.session.session import Prepared, Session, open_session
from flows.steps.evaluate import columns_of
from flows.steps.finetune import Finetune
from flows.steps.prepare import Prepare
from flows.steps.quantize import Exported, Quantize, served_file
from flows.steps.remote_training import require_deployment, train_on
from flows.steps.step import run_all
from flows.steps.train import Train
from flows.tracking import registry, runs
from flows.tracking.registry import Version
from flows.tracking.runs import Tracking

if TYPE_CHECKING:
    from components.evaluation.bootstrap import Interval
    from components.evaluation.predictions import Predictions
    from components.serving.onnx_classifier import OnnxClassifier

logger = logging.getLogger(__name__)

_FORMATS = (".png", ".svg")
_ROUNDS = 2
"""Rounds in which each model's latency is measured in turn, so that a busy moment doesn't fall on one model alone."""


@dataclass(frozen=True)
class _Candidate:
    """A model that has a file to serve."""

    name: str
    run_id: str
    file: Path
    version: Version | None
    """Where it is registered; None for one that was trained for the comparison."""


@dataclass(frozen=True)
class ComparisonRow:
    """One row of the comparison; a model that failed has a reason and no figures."""

    name: str
    run_id: str | None = None
    validation_accuracy: float | None = None
    """Accuracy on validation images that none of the models was trained on; it decides which model is chosen."""
    validation_accuracy_interval: "Interval | None" = None
    """95% interval (Wilson 1927)."""
    accuracy: float | None = None
    """On the test split, of the file that would be served."""
    accuracy_interval: "Interval | None" = None
    """95% bootstrap interval, as are those below; None without resamples."""
    macro_f1: float | None = None
    macro_f1_interval: "Interval | None" = None
    difference: float | None = None
    """Test accuracy minus that of the chosen model; None for the chosen model."""
    difference_interval: "Interval | None" = None
    """Both models are scored on the same resamples."""
    p_corrected: float | None = None
    """p-value of the paired test, corrected by Holm for the number of models."""
    latency_ms: float | None = None
    """Median for one decoded image on this machine."""
    bytes: int | None = None
    training_seconds: float | None = None
    """Seconds of all epochs, with fine-tuning and an ensemble's members, on the machine that trained; None: unknown."""
    non_dominated: bool = False
    """Whether no other model is as good in accuracy, latency, size and training time, and better in one of them."""
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class ComparisonResult:
    run_id: str
    chosen: str
    """The best model on validation."""
    test_images: int
    """Images that none of the models has seen."""
    models: list[ComparisonRow]
    """The chosen one first."""
    picture: str


@flow(name="compare")
def compare(
    names: list[str],
    overrides: list[str] | None = None,
    project: str | None = None,
    deployment: str | None = None,
    out: str = "comparison.png",
    overwrite: bool = False,
    values: dict[str, Any] | None = None,
) -> ComparisonResult:
    """Trains what isn't trained with these params yet, on the workers of `deployment` if given, and plots `out`."""
    session = open_session(project, overrides, values=values, exports=True)
    output = Output(picture := Path(out), overwrite=overwrite)
    output.check()
    if picture.suffix.lower() not in _FORMATS:
        raise SettingsError(f"--out {picture.name}: should end in {' or '.join(_FORMATS)}")
    versions = check_models(session, names)
    if deployment is not None:
        require_deployment(deployment)
    prepared = run_all([Prepare()], session)[Prepared]
    session = session.for_data()
    mark = sha256_of_record({"names": sorted(versions), "data": prepared.augmented_digest})
    run_id = runs.begin(
        session.tracking,
        "compare",
        mark,
        name=f"compare {len(versions)} models",
        tags={"darkroom.data_version": prepared.data_version},
    )
    failed: dict[str, str] = {}
    if deployment is not None:
        failed |= _train_there(session, prepared, [name for name in versions if not versions[name]], deployment, run_id)
    candidates = []
    for name, version in versions.items():
        try:
            if name not in failed:
                candidates.append(_candidate(session, prepared, name, version, run_id))
        except ServiceError:
            raise
        except DarkroomError as problem:
            failed[name] = str(problem)
            logger.warning(f"{name} is left out: {problem}")
    if not candidates:
        runs.fail(session.tracking, run_id, "no model came to its end")
        raise DarkroomError(f"none of the models can be compared: {next(iter(failed.values()))}")
    lines, images = _measure(session, candidates)
    lines += [ComparisonRow(name, reason=reason) for name, reason in failed.items()]
    output.check()
    _keep(session, run_id, lines, picture)
    output.record()
    runs.finish(session.tracking, run_id, "compare", mark)
    return ComparisonResult(run_id, chosen=lines[0].name, test_images=images, models=lines, picture=str(picture))


def check_models(session: Session, names: Sequence[str]) -> dict[str, Version | None]:
    """The registered version of each name, None for an architecture; raises SettingsError for what doesn't exist."""
    found: dict[str, Version | None] = {}
    for name in names:
        if is_version(name):
            model, wanted = parse_version(name, own=session.params.register.name)
            found[name] = registry.require_ours(registry.get_version(session.tracking, model, wanted))
            continue
        check_architecture(session.params, session.project, name)
        found[name] = None
    if len(found) < 2:
        raise SettingsError(f"{', '.join(found)} alone can't be compared; name two models or more")
    return found


def _with(session: Session, architecture: str) -> Session:
    """The same params with another architecture."""
    return replace(session, params=session.params.of_architecture(architecture))


def _train_there(session: Session, prepared: Prepared, names: list[str], deployment: str, under: str) -> dict[str, str]:
    """Has the workers train, `tune.parallel_trials` at a time; returns the reason for each that failed."""

    def train(name: str) -> str:
        there = _with(session, name)
        values = there.params.model.model_dump(include={"architecture", "compound"})
        handed = {f"model.{key}": value for key, value in values.items()}
        try:
            train_on(deployment, there, prepared, values=handed, parent_run=under)
        except ServiceError:
            raise
        except DarkroomError as problem:
            return str(problem)
        return ""

    with ThreadPoolExecutor(session.params.tune.parallel_trials) as threads:
        reasons = dict(zip(names, threads.map(train, names), strict=True))
    return {name: reason for name, reason in reasons.items() if reason}


def _candidate(session: Session, prepared: Prepared, name: str, version: Version | None, under: str) -> _Candidate:
    if version is not None:
        return _Candidate(name, version.run_id, registry.fetch_model(session.tracking, version), version)
    own = _with(session, name)
    exported = run_all([Train(parent_run=under), Finetune(), Quantize()], own, prepared)[Exported]
    return _Candidate(name, exported.run_id, served_file(own, exported), None)


def _measure(session: Session, candidates: Sequence[_Candidate]) -> tuple[list[ComparisonRow], int]:
    """The lines, the one that is chosen by validation first, and on how many test images they rest."""
    from components.evaluation.bootstrap import fraction_interval
    from components.evaluation.metrics import unranked_scores
    from components.evaluation.model_comparison import compare_models
    from components.serving.onnx_classifier import OnnxClassifier

    settings = session.params.evaluate
    models = {one.name: OnnxClassifier(one.file, provider=session.params.quantize.provider) for one in candidates}
    validated = {name: found.correct_N for name, found in _predictions(session, "val", candidates, models).items()}
    validation = {name: float(correct_N.mean()) for name, correct_N in validated.items()}
    test = _predictions(session, "test", candidates, models)
    chosen = max(validation, key=lambda name: validation[name])
    found = compare_models(
        test,
        reference=chosen,
        top_k=settings.top_k,
        num_resamples=max(settings.bootstrap_resamples, 1),
        seed=settings.seed,
    )
    latency = _latencies(session, candidates)
    lines = []
    for one in candidates:
        correct_N = validated[one.name]
        values, intervals = unranked_scores(
            test[one.name], top_k=settings.top_k, num_resamples=settings.bootstrap_resamples, seed=settings.seed
        )
        against = next((row for row in found.candidates if row.name == one.name), None)
        lines.append(
            ComparisonRow(
                name=one.name,
                run_id=one.run_id,
                validation_accuracy=validation[one.name],
                validation_accuracy_interval=fraction_interval(int(correct_N.sum()), len(correct_N)),
                accuracy=values["accuracy"],
                accuracy_interval=intervals.get("accuracy"),
                macro_f1=values["macro_f1"],
                macro_f1_interval=intervals.get("macro_f1"),
                difference=against.difference if against else None,
                difference_interval=against.interval if against and settings.bootstrap_resamples else None,
                p_corrected=against.p_corrected if against else None,
                latency_ms=latency[one.name],
                bytes=one.file.stat().st_size,
                training_seconds=training_seconds(session.tracking, one.run_id),
            )
        )
    lines = with_front(lines)
    lines.sort(key=lambda line: (line.name != chosen, -(line.validation_accuracy or 0.0), line.name))
    return lines, found.images


def with_front(lines: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The lines, marked where no other model is as good in everything; what isn't known of one wins it nothing."""
    import numpy as np

    from components.evaluation.pareto_front import non_dominated

    front = non_dominated(np.array([_costs(line) for line in lines]))
    return [replace(line, non_dominated=bool(one)) for line, one in zip(lines, front, strict=True)]


def _costs(line: ComparisonRow) -> list[float]:
    measures = (line.latency_ms, line.bytes, line.training_seconds)
    return [-(line.accuracy or 0.0), *(float(one) if one is not None else math.inf for one in measures)]


def _predictions(
    session: Session, split: str, candidates: Sequence[_Candidate], models: Mapping[str, "OnnxClassifier"]
) -> dict[str, "Predictions"]:
    """Of the files, from the raw images, without those that a registered version had learned from or was chosen by."""
    from components.evaluation.served_predictions import predictions_of_files

    seen: set[str] = set()
    for one in candidates:
        if one.version is not None:
            splits = ("train",) if split == "val" else ("train", "val")
            seen |= known_images(session, one.version, splits)
    with image_files(session.project, split) as files:
        kept = [place for place, sha256 in enumerate(files.sha256_N) if sha256 not in seen]
        if not kept:
            raise DataError(f"the registered versions learned from every image of the {split} split: nothing is left")
        if len(kept) < len(files):
            logger.info(
                f"{len(files) - len(kept)} of {len(files)} {split} images are left out: a registered version knows them"
            )
        return {one.name: predictions_of_files(models[one.name], files.at(kept)) for one in candidates}


def _latencies(session: Session, candidates: Sequence[_Candidate]) -> dict[str, float]:
    """Each in a clean process, in turn."""
    from components.export.model_timing import time_file

    settings = session.params.quantize
    each = max(1, settings.latency_runs // _ROUNDS)
    measured: dict[str, list[float]] = {one.name: [] for one in candidates}
    for _ in range(_ROUNDS):
        for one in candidates:
            report = time_file(one.file, provider=settings.provider, latency_runs=each)
            assert report.speed is not None
            measured[one.name].append(report.speed.latency.p50_ms)
    return {name: median(times) for name, times in measured.items()}


def training_seconds(tracking: Tracking, run_id: str) -> float | None:
    """Of all epochs of a run and of those that it came from, each run once; None where one of them is unknown."""
    waiting, seconds = [run_id], dict[str, float]()
    while waiting:
        one = waiting.pop()
        if one in seconds:
            continue
        if runs.step_of(tracking, one) is None:
            return None
        epochs, before = runs.metric_history(tracking, one, "seconds"), runs.made_from(runs.tags_of(tracking, one))
        if not epochs and not before:
            return None
        seconds[one] = sum(took for _, took in epochs)
        waiting += before
    return sum(seconds.values())


def _keep(session: Session, run_id: str, lines: list[ComparisonRow], picture: Path) -> None:
    from components.reporting.figures import Tradeoff, draw_tradeoffs

    done = [line for line in lines if not line.reason]
    points = [
        Tradeoff(
            name=line.name,
            accuracy=line.accuracy or 0.0,
            latency_ms=line.latency_ms or 0.0,
            megabytes=(line.bytes or 0) / 1e6,
            training_seconds=line.training_seconds,
            non_dominated=line.non_dominated,
        )
        for line in done
    ]
    draw_tradeoffs(points, picture)
    runs.log_table(session.tracking, run_id, "comparison.json", columns_of([asdict(line) for line in lines]))
    runs.store(session.tracking, run_id, picture, "figures")
    runs.set_tags(session.tracking, run_id, {"darkroom.chosen": lines[0].name})


def show_comparison(result: ComparisonResult) -> str:
    """Shows the table on standard output; returns what it says in a sentence."""
    rows = [_row(line, result.chosen) for line in result.models]
    columns = (
        *("model", "validation", "test", "macro F1", "against *", "p (Holm)"),
        *("ms an image", "bytes", "training s", "Pareto", "reason"),
    )
    show_table(
        "accuracy by validation and test with 95% intervals, latency, size, training time (* best on validation)",
        columns,
        rows,
    )
    return (
        f"{result.chosen} is best on validation; p is of the paired test on the same {result.test_images} test "
        f"images against it; picture: {result.picture}"
    )


def _row(line: ComparisonRow, chosen: str) -> list[str]:
    return [
        line.name + (" *" if line.name == chosen else ""),
        _cell(line.validation_accuracy, ".4f", line.validation_accuracy_interval),
        _cell(line.accuracy, ".4f", line.accuracy_interval),
        _cell(line.macro_f1, ".4f", line.macro_f1_interval),
        _cell(line.difference, "+.4f", line.difference_interval),
        _cell(line.p_corrected, ".3f"),
        _cell(line.latency_ms, ".2f"),
        _cell(line.bytes, ","),
        _cell(line.training_seconds, ".1f") or ("" if line.reason else "unknown"),
        "yes" if line.non_dominated else "",
        line.reason,
    ]


def _cell(value: float | None, style: str, interval: "Interval | None" = None) -> str:
    reach = f" ({' to '.join(format(end, style) for end in interval)})" if interval else ""
    return "" if value is None else format(value, style) + reach
