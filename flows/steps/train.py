"""Train a model on the packed data, in a process of its own, with its life told to MLflow as it happens."""

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from prefect import flow

from components.shared.errors import DarkroomError
from components.shared.files import read_json, write_json
from components.shared.processor import this_processor
from components.training.settings import TrainingJob
from flows.console.console import progress
from flows.project.child_process import Event, last_lines, run_child
from flows.project.dvc import data_paths
from flows.project.fingerprint import fingerprint
from flows.project.gpu import num_gpus
from flows.registry.initial_weights import (
    INITIAL_WEIGHTS,
    initial_weights,
    initial_weights_record,
    teacher_mark,
    teacher_model,
)
from flows.registry.lineage import RECORD, git_state, write_lineage
from flows.session.session import Prepared, Session, StepTime, alone, open_session, timed
from flows.steps.prepare import prepare_data
from flows.steps.task import step
from flows.tracking import runs
from flows.tracking.system_metrics import system_metrics

logger = logging.getLogger(__name__)

_CODE = ("components.training.process",)
_KEPT = (
    ("model", "model"),
    ("members", "members"),
    ("lineage", "lineage"),
    ("history.json", None),
    ("plan.json", None),
    ("curves.png", "figures"),
    ("rate.png", "figures"),
)
"""What a training leaves and where its run keeps it; members and the range test of a rate are there where asked for."""
QAT = "qat"
"""The step that fine-tunes for int8; it belongs to the run of the model that it starts from."""
_PACKAGES = ("torch", "torchvision", "lightning", "albumentations")


@dataclass(frozen=True)
class Trained:
    run_id: str
    """The MLflow run that keeps the model."""
    step: Literal["train", "finetune", "ensemble"]
    """The step that left it there."""
    time: StepTime


OnEpoch = Callable[[str, Event], None]
"""Is told the run and each epoch of it; may raise TrainingStopped."""


class TrainingStopped(DarkroomError):
    """Training was told to end after this epoch; the message says why."""


@step("train")
def train_model(session: Session, prepared: Prepared, *, under: str | None = None) -> Trained:
    """The run of a model trained with these settings on this data: found, taken up again, or new.

    A new one is a child of the run `under`.
    """
    return train_watched(session, prepared, under=under)


def train_watched(
    session: Session, prepared: Prepared, *, under: str | None = None, on_epoch: OnEpoch | None = None
) -> Trained:
    """`train_model` for a training that may be told to stop: no task, for Prefect takes each exception for a fault."""
    with timed("train") as watch:
        mark = train_fingerprint(session, prepared)
        with alone(session, mark):
            run_id = runs.find_done(session.tracking, "train", mark)
            if run_id is not None:
                watch.reused(f"run {run_id}")
            else:
                run_id = learn(
                    session, prepared, "train", mark, start_from=None, parent=None, under=under, on_epoch=on_epoch
                )
                watch.note = f"run {run_id}"
    return Trained(run_id, "train", watch.time())


def train_fingerprint(session: Session, prepared: Prepared) -> str:
    params = session.params
    return fingerprint(
        "train",
        inputs={"augmented": prepared.augmented_digest, "weights": initial_weights(session)[1]} | teacher_mark(session),
        settings={
            "preprocess": params.preprocess.model_dump(),
            "augment": params.augment.model_dump(),
            "model": params.model.model_dump(exclude={"weights", "scenario"}),
            "train": params.train.model_dump(),
        },
        code=_CODE,
        packages=_PACKAGES,
    )


def learn(
    session: Session,
    prepared: Prepared,
    kind: Literal["train", "finetune"],
    mark: str,
    *,
    start_from: Path | None,
    parent: str | None,
    under: str | None = None,
    on_epoch: OnEpoch | None = None,
) -> str:
    """Trains in a child process; everything that comes of it stands on the returned run."""
    params, tracking = session.params, session.tracking
    output = session.project.work / kind / mark
    weights, what = initial_weights(session)
    if weights != params.model.weights and start_from is None:
        logger.info(f"the weights are those of {what}")
    teacher = teacher_model(session)
    job = TrainingJob(
        step=kind,
        data=str(data_paths(session.project).augmented),
        output=str(output),
        decoded=str(session.decoded.file(session.project, prepared.augmented_digest)),
        start_from=str(start_from) if start_from else None,
        teacher=str(teacher.folder) if teacher else None,
        preprocess=params.preprocess,
        augment=params.augment,
        model=params.model.model_copy(update={"weights": weights, "scenario": None}),
        train=params.train,
        finetune=params.finetune,
    )
    write_json(output / "job.json", job.model_dump())
    run_id = runs.begin(
        tracking,
        kind,
        mark,
        name=f"{kind} {params.model.architecture}",
        tags=run_tags(session, prepared, parent),
        under=under,
    )
    runs.log_params(tracking, run_id, params.as_record())
    _tell_processor()
    try:
        with system_metrics(tracking, run_id):
            run_job(session, run_id, output, kind, on_epoch)
    except TrainingStopped as stopped:
        runs.stop(tracking, run_id, str(stopped))
        raise
    except KeyboardInterrupt:
        runs.stop(tracking, run_id, "stopped by Ctrl-C or a signal; the same command goes on with it")
        raise
    except DarkroomError as problem:
        runs.fail(tracking, run_id, str(problem))
        raise
    _keep(session, prepared, run_id, output)
    runs.finish(tracking, run_id, kind, mark)
    return run_id


@cache
def _tell_processor() -> None:
    """Once a process, for a search trains again and again."""
    if not num_gpus():
        logger.info("training on the CPU, for this machine has no GPU")


def run_tags(session: Session, prepared: Prepared, parent: str | None) -> dict[str, str]:
    """What a run of a model is tagged with; `parent` is the run that it started from."""
    tags = {
        "darkroom.data_version": prepared.data_version,
        "darkroom.split_digest": prepared.split_digest,
        "darkroom.processor": str(this_processor()),
        "mlflow.source.git.commit": git_state(session.project),
        "mlflow.source.name": "darkroom",
    }
    return tags | ({"darkroom.trained_from": parent} if parent else {})


def run_job(session: Session, run_id: str, output: Path, kind: str, on_epoch: OnEpoch | None = None) -> None:
    """Works the job in the folder to its end, in a child process; what it tells goes to the log and to the run."""
    result = output / "result.json"
    if result.exists():
        return
    # Several may train in this folder at once.
    log = session.project.logs / f"{kind}-{output.name[:12]}.log"

    def tell(event: Event) -> None:
        _on_event(session, run_id, kind, event)
        if on_epoch is not None and event["event"] == "epoch":
            on_epoch(run_id, event)

    finished = run_child(
        [sys.executable, "-m", "components.training.process", str(output / "job.json")],
        folder=session.project.root,
        log=log,
        on_event=tell,
    )
    if finished.exit_code == -signal.SIGKILL:
        raise DarkroomError(
            f"{kind} was killed from outside, as a system does that runs out of memory; if it was that, lower "
            f"train.batch_size (now {session.params.train.batch_size}) or set train.activation_checkpointing to true "
            f"(log in {log})"
        )
    if finished.exit_code != 0 or not result.exists():
        raise DarkroomError(
            f"{kind} stopped with exit code {finished.exit_code}: {last_lines(log)} (all of it in {log})"
        )


def _on_event(session: Session, run_id: str, kind: str, event: Event) -> None:
    if event["event"] == "progress":
        progress()(event["task"], event["done"], event["total"])
    elif event["event"] == "log":
        logging.getLogger(event["logger"]).log(event["level"], event["message"])
    elif event["event"] == "epoch":
        logger.info(
            f"{kind} {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}, "
            f"validation loss {event['val_loss']:.4f}, accuracy {event['val_accuracy']:.4f}, "
            f"macro F1 {event['val_macro_f1']:.4f}; rate {event['learning_rate']:.2g}, "
            f"{event['images_per_second']:.0f} images/s, {_used(event)}, {event['seconds_left']:.0f} s left"
        )
        # The curves of a run are those of the training that made its model.
        before = f"{QAT}/" if kind == QAT else ""
        metrics = {f"{before}{name}": value for name, value in _metrics(event).items()}
        runs.log_metrics(session.tracking, run_id, metrics, step=event["epoch"])


def _used(event: Event) -> str:
    """Of the machine, by the training's processes."""
    gpu = f", GPU {event['gpu_memory_gib']:.1f} GiB" if event["gpu_memory_gib"] else ""
    return f"CPU {event['cpu_percent']:.0f}% and {event['memory_gib']:.1f} GiB{gpu}"


def _metrics(event: Event) -> dict[str, float]:
    """All numbers of an epoch, with the rate of each group of parts where they differ."""
    rates = event["learning_rates"]
    groups = {f"learning_rate_{number}": rate for number, rate in enumerate(rates)} if len(set(rates)) > 1 else {}
    return {name: value for name, value in event.items() if isinstance(value, float)} | groups


def _keep(session: Session, prepared: Prepared, run_id: str, output: Path) -> None:
    from components.reporting.figures import draw_curves, draw_rate_test

    tracking = session.tracking
    result: dict[str, Any] = read_json(output / "result.json")
    draw_curves(result["history"], output / "curves.png")
    if (output / "rate.json").exists():
        draw_rate_test(read_json(output / "rate.json"), output / "rate.png")
    write_lineage(session, prepared, output / "lineage")
    record = output / "lineage" / RECORD
    write_json(record, read_json(record) | {INITIAL_WEIGHTS: initial_weights_record(session)})
    for name, place in _KEPT:
        if (output / name).exists():
            runs.store(tracking, run_id, output / name, place)
    runs.set_tags(tracking, run_id, {"darkroom.diagnosis": result["diagnosis"]["sentence"]})
    runs.store(tracking, run_id, data_paths(session.project).augmented / "preview.png", "figures")
    scores = {f"best_{name}": value for name, value in result["scores"].items()}
    runs.log_metrics(tracking, run_id, {"best_epoch": result["best_epoch"]} | scores)
    runs.log_dataset(
        tracking, run_id, name=session.params.register.name, digest=prepared.data_version, source="data/raw"
    )


def up_to_trained(session: Session) -> tuple[Prepared, Trained]:
    prepared = prepare_data(session.project)
    return prepared, train_model(session, prepared)


@flow(name="train")
def train(
    overrides: list[str] | None = None,
    project: str | None = None,
    values: dict[str, Any] | None = None,
    under: str | None = None,
) -> str:
    """Trains alone, on data that is brought up to date first; returns the run.

    `values`, such as {"train.epochs": 3}, hold for this training alone; params.yaml stays as it is. Below another run
    it ends early where that is asked for.
    """
    session = open_session(project, overrides)
    session = replace(session, params=session.params.with_values(values or {}))
    prepared = prepare_data(session.project)

    def look(run_id: str, _: Event) -> None:
        reason = runs.asked_to_stop(session.tracking, run_id)
        if reason is not None:
            raise TrainingStopped(reason)

    if under is None:
        return train_model(session, prepared).run_id
    try:
        return train_watched(session, prepared, under=under, on_epoch=look).run_id
    except TrainingStopped as stopped:
        logger.info(f"stopped: {stopped}")
        return runs.find_started(session.tracking, "train", train_fingerprint(session, prepared)) or ""
