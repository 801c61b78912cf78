"""One training in a process of its own, logged to MLflow while it runs: what train, finetune and QAT share."""

import logging
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from components.shared.errors import DarkroomError
from components.shared.files import read_json, write_json
from components.shared.processor import this_processor
from components.training.settings import TrainingJob
from flows.console.console import progress
from flows.project.child_process import Event, last_lines, run_child
from flows.project.dvc import data_paths
from flows.project.gpu import num_gpus
from flows.registry.initial_weights import initial_weights, pinned_weights, teacher_model
from flows.registry.lineage import git_state, write_lineage
from flows.session.session import Prepared, Session
from flows.tracking import runs
from flows.tracking.system_metrics import system_metrics

logger = logging.getLogger(__name__)

TRAINING_CODE = ("components.training.process",)
"""The modules that compute in a training process."""
TRAINING_PACKAGES = ("torch", "torchvision", "timm", "lightning", "albumentations")
_STORED = (
    ("model", "model"),
    ("members", "members"),
    ("lineage", "lineage"),
    ("history.json", None),
    ("plan.json", None),
    ("curves.png", "figures"),
    ("rate.png", "figures"),
)
"""The files of a training and the folder of its run that stores them; members and rate.png only where asked for."""
QAT = "qat"
"""The training that fine-tunes for int8; it belongs to the run of the model that it starts from."""

OnEpoch = Callable[[str, Event], None]
"""Is called with the run and each of its epochs; may raise TrainingStopped."""


class TrainingStopped(DarkroomError):
    """Training was asked to end after this epoch; the message says why."""


def train_in_run(
    session: Session,
    prepared: Prepared,
    step: Literal["train", "finetune"],
    fingerprint: str,
    *,
    start_from: Path | None = None,
    trained_from: str | None = None,
    parent_run: str | None = None,
    on_epoch: OnEpoch | None = None,
) -> str:
    """Trains in a child process; returns the MLflow run that keeps all its results.

    `start_from` is the folder of the model to continue, `trained_from` the run that made it, `parent_run` the run that
    a new one is shown below. A run with this fingerprint that was interrupted is resumed.
    """
    params, tracking = session.params, session.tracking
    output = session.project.work / step / fingerprint
    weights, what = initial_weights(session)
    if weights != params.model.weights and start_from is None:
        logger.info(f"the weights are those of {what}")
    teacher = teacher_model(session)
    job = TrainingJob(
        step=step,
        data=str(_packed(session, prepared)),
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
        step,
        fingerprint,
        name=f"{step} {params.model.architecture}",
        tags=run_tags(session, prepared, trained_from),
        under=parent_run,
    )
    runs.log_params(tracking, run_id, params.as_record())
    _log_processor()
    try:
        with system_metrics(tracking, run_id):
            run_job(session, run_id, output, step, on_epoch)
    except TrainingStopped as stopped:
        runs.stop(tracking, run_id, str(stopped))
        raise
    except KeyboardInterrupt:
        runs.stop(tracking, run_id, "stopped by Ctrl-C or a signal; the same command resumes it")
        raise
    except DarkroomError as problem:
        runs.fail(tracking, run_id, str(problem))
        raise
    _store(session, prepared, run_id, output)
    runs.finish(tracking, run_id, step, fingerprint)
    return run_id


@cache
def _log_processor() -> None:
    """Logs once a process which processor trains, for a search trains many times."""
    if not num_gpus():
        logger.info("training on the CPU, for this machine has no GPU")


def _packed(session: Session, prepared: Prepared) -> Path:
    return prepared.augmented or data_paths(session.project).augmented


def run_tags(session: Session, prepared: Prepared, trained_from: str | None) -> dict[str, str]:
    """The tags of a run that makes a model; `trained_from` is the run whose model it continues."""
    tags = {
        "darkroom.data_version": prepared.data_version,
        "darkroom.split_digest": prepared.split_digest,
        "darkroom.processor": str(this_processor()),
        "mlflow.source.git.commit": git_state(session.project),
    }
    return tags | ({"darkroom.trained_from": trained_from} if trained_from else {})


def run_job(session: Session, run_id: str, output: Path, step: str, on_epoch: OnEpoch | None = None) -> None:
    """Runs the job of the folder in a child process, and logs its events to the console and to the MLflow run."""
    result = output / "result.json"
    if result.exists():
        return
    # Several trainings may run in this folder at once, each with a log of its own.
    log = session.project.logs / f"{step}-{output.name[:12]}.log"

    def log_event(event: Event) -> None:
        _on_event(session, run_id, step, event)
        if on_epoch is not None and event["event"] == "epoch":
            on_epoch(run_id, event)

    finished = run_child(
        [sys.executable, "-m", "components.training.process", str(output / "job.json")],
        folder=session.project.root,
        log=log,
        on_event=log_event,
    )
    if finished.exit_code == -signal.SIGKILL:
        raise DarkroomError(
            f"{step} was killed from outside, as a system does that runs out of memory; if it was that, lower "
            f"train.batch_size (now {session.params.train.batch_size}) or set train.activation_checkpointing to true "
            f"(log in {log})"
        )
    if finished.exit_code != 0 or not result.exists():
        raise DarkroomError(
            f"{step} stopped with exit code {finished.exit_code}: {last_lines(log)} (all of it in {log})"
        )


def _on_event(session: Session, run_id: str, step: str, event: Event) -> None:
    if event["event"] == "progress":
        progress()(event["task"], event["done"], event["total"])
    elif event["event"] == "log":
        logging.getLogger(event["logger"]).log(event["level"], event["message"])
    elif event["event"] == "epoch":
        logger.info(
            f"{step} {event['epoch']}/{event['epochs']}: loss {event['train_loss']:.4f}, "
            f"validation loss {event['val_loss']:.4f}, accuracy {event['val_accuracy']:.4f}, "
            f"macro F1 {event['val_macro_f1']:.4f}; rate {event['learning_rate']:.2g}, "
            f"{event['images_per_second']:.0f} images/s{_gpu_memory(event)}, {event['seconds_left']:.0f} s left"
        )
        # The curves of a run are those of the training that made its model.
        before = f"{QAT}/" if step == QAT else ""
        metrics = {f"{before}{name}": value for name, value in _metrics(event).items()}
        runs.log_metrics(session.tracking, run_id, metrics, step=event["epoch"])


def _gpu_memory(event: Event) -> str:
    return f", GPU {event['gpu_memory_gib']:.1f} GiB" if event["gpu_memory_gib"] else ""


def _metrics(event: Event) -> dict[str, float]:
    """All numbers of an epoch, with the learning rate of each layer group where they differ."""
    rates = event["learning_rates"]
    groups = {f"learning_rate_{number}": rate for number, rate in enumerate(rates)} if len(set(rates)) > 1 else {}
    return {name: value for name, value in event.items() if isinstance(value, float)} | groups


def _store(session: Session, prepared: Prepared, run_id: str, output: Path) -> None:
    from components.reporting.figures import draw_curves, draw_rate_test

    tracking = session.tracking
    result: dict[str, Any] = read_json(output / "result.json")
    draw_curves(result["history"], output / "curves.png")
    if (output / "rate.json").exists():
        draw_rate_test(read_json(output / "rate.json"), output / "rate.png")
    write_lineage(session, prepared, output / "lineage", initial_weights=pinned_weights(session))
    for name, folder in _STORED:
        if (output / name).exists():
            runs.store(tracking, run_id, output / name, folder)
    runs.set_tags(tracking, run_id, {"darkroom.diagnosis": result["diagnosis"]["sentence"]})
    runs.store(tracking, run_id, _packed(session, prepared) / "preview.png", "figures")
    scores = {f"best_{name}": value for name, value in result["scores"].items()}
    runs.log_metrics(tracking, run_id, {"best_epoch": result["best_epoch"]} | scores)
    runs.log_dataset(
        tracking, run_id, name=session.params.register.name, digest=prepared.data_version, source="data/raw"
    )
