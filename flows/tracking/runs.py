"""Runs: one for each model that was trained or fine-tuned, with everything later steps find out about it.

A step leaves its fingerprint as a tag on the run once all that it produced is stored; a step whose fingerprint
stands on a run already is not worked again.
"""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from components.shared.errors import DarkroomError, ServiceError
from components.shared.files import atomic_folder, write_text
from flows.console.logs import log_file
from flows.project.project import Project
from flows.project.user import user_name
from flows.tracking.connection import artifact_folder, connect, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_STARTED, _DONE, _USED = "darkroom.started", "darkroom.done", "darkroom.used"
_FAILED, _STOPPED, _STOP = "darkroom.failed", "darkroom.stopped", "darkroom.stop"
_NO_EXPERIMENT = ""
_ABOVE = "mlflow.parentRunId"
_KIND, _OF_MODELS = "mlflow.experimentKind", "custom_model_development"
"""By this tag MLflow's pages show an experiment as one of model training; without it they open on GenAI."""


@dataclass(frozen=True)
class Tracking:
    client: "MlflowClient"
    experiment_id: str
    experiment: str
    work: Path
    """Where downloads are kept."""


def open_tracking(project: Project, experiment: str) -> Tracking:
    client = connect(project)
    found = client.get_experiment_by_name(experiment)
    if found is not None and found.lifecycle_stage == "deleted":
        raise DarkroomError(f"the experiment {experiment} was deleted on the tracking server; restore it there")
    experiment_id = found.experiment_id if found else _create_experiment(client, project, experiment)
    if found is not None and _KIND not in found.tags:
        # Made by an earlier release; MLflow would take it for one of language models.
        client.set_experiment_tag(experiment_id, _KIND, _OF_MODELS)
    return Tracking(client, experiment_id, experiment, project.work)


def existing_tracking(project: Project, experiment: str) -> Tracking | None:
    """None where nothing was tracked yet; unlike opening it, looking makes neither a database nor an experiment."""
    client = _existing_client(project)
    if client is None or client.get_experiment_by_name(experiment) is None:
        return None
    return open_tracking(project, experiment)


def existing_registry(project: Project) -> Tracking | None:
    """For who looks up registered models of any name; None where there is no database, and nothing is made."""
    client = _existing_client(project)
    return Tracking(client, _NO_EXPERIMENT, "", project.work) if client is not None else None


def _existing_client(project: Project) -> "MlflowClient | None":
    uri = tracking_uri(project)
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        return None
    return connect(project)


def find_done(tracking: Tracking, step: str, fingerprint: str) -> str | None:
    """The run on which this step was finished with this fingerprint."""
    return _find(tracking, f"tags.`{_DONE}.{step}` = '{fingerprint}'")


def find_started(tracking: Tracking, step: str, fingerprint: str) -> str | None:
    """The run on which this step was begun with this fingerprint, finished or not."""
    return _find(tracking, f"tags.`{_STARTED}.{step}` = '{fingerprint}'")


def begin(
    tracking: Tracking, step: str, fingerprint: str, *, name: str, tags: Mapping[str, str], under: str | None = None
) -> str:
    """A new run for a model, or the one that was begun with the same fingerprint and cut off.

    A new one is a child of the run `under`.
    """
    unfinished = find_started(tracking, step, fingerprint)
    if unfinished is not None:
        tracking.client.update_run(unfinished, status="RUNNING")
        for tag in {_FAILED, _STOPPED, _STOP} & set(tags_of(tracking, unfinished)):
            tracking.client.delete_tag(unfinished, tag)
        return unfinished
    above = {_ABOVE: under} if under is not None else {}
    # MLflow itself would name nobody, and no source.
    origin = {"mlflow.user": user_name(), "mlflow.source.type": "LOCAL", "mlflow.source.name": f"darkroom {step}"}
    run = tracking.client.create_run(
        tracking.experiment_id,
        run_name=name,
        tags={**origin, **tags, **above, f"{_STARTED}.{step}": fingerprint, "darkroom.step": step},
    )
    run_id: str = run.info.run_id
    return run_id


def finish(tracking: Tracking, run_id: str, step: str, fingerprint: str, *, place: str | None = None) -> None:
    """Marks the step as done: from now on the run keeps what lies at `place`, and the log of this command."""
    if place is not None:
        write_text(_local_mark(tracking, run_id, place), fingerprint)
    log = log_file()
    if log is not None:
        store(tracking, run_id, log, "logs")
    tracking.client.set_tag(run_id, f"{_DONE}.{step}", fingerprint)
    tracking.client.set_terminated(run_id, "FINISHED")


def fail(tracking: Tracking, run_id: str, reason: str) -> None:
    tracking.client.set_tag(run_id, _FAILED, reason[:4000])
    tracking.client.set_terminated(run_id, "FAILED")


def stop(tracking: Tracking, run_id: str, reason: str) -> None:
    """Notes that the run ended early because that was asked for."""
    tracking.client.set_tag(run_id, _STOPPED, reason[:4000])
    tracking.client.set_terminated(run_id, "KILLED")


def ask_to_stop(tracking: Tracking, run_id: str, reason: str) -> None:
    """For the process that works on the run, wherever it is: it looks after each epoch."""
    tracking.client.set_tag(run_id, _STOP, reason[:4000])


def asked_to_stop(tracking: Tracking, run_id: str) -> str | None:
    """The reason, where somebody asked."""
    return tags_of(tracking, run_id).get(_STOP)


def is_under(tracking: Tracking, run_id: str, above: str) -> bool:
    return tags_of(tracking, run_id).get(_ABOVE) == above


def log_metrics(tracking: Tracking, run_id: str, metrics: Mapping[str, float], *, step: int = 0) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(name, value, now, step) for name, value in metrics.items() if not math.isnan(value)]
    tracking.client.log_batch(run_id, metrics=entries)


def log_params(tracking: Tracking, run_id: str, settings: Mapping[str, Any]) -> None:
    """Those that the run doesn't have yet: MLflow refuses to change one, and what a run depends on never changes."""
    from mlflow.entities import Param

    known = tracking.client.get_run(run_id).data.params
    new = [Param(name, str(value)[:6000]) for name, value in _flat("", settings) if name not in known]
    tracking.client.log_batch(run_id, params=new)


def log_table(tracking: Tracking, run_id: str, name: str, columns: Mapping[str, list[Any]]) -> None:
    """A table that the run's page shows, in place of an earlier one of that name."""
    from mlflow.exceptions import MlflowException

    record = {"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]}
    try:
        tracking.client.log_dict(run_id, record, name)
        tracking.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": name, "type": "table"}]))
    except (MlflowException, OSError) as problem:
        raise ServiceError(f"{name} can't be stored with run {run_id}: {problem}") from None


def log_dataset(tracking: Tracking, run_id: str, *, name: str, digest: str, source: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(name=name, digest=digest[:36], source_type="dvc", source=source)
    entry = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
    tracking.client.log_inputs(run_id, [entry])


def set_tags(tracking: Tracking, run_id: str, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        tracking.client.set_tag(run_id, name, value)


def tags_of(tracking: Tracking, run_id: str) -> dict[str, str]:
    return dict(tracking.client.get_run(run_id).data.tags)


def store(tracking: Tracking, run_id: str, source: Path, place: str | None = None) -> None:
    """Keeps a file or a folder's content with the run, below `place`; raises ServiceError where it can't be stored."""
    from mlflow.exceptions import MlflowException

    try:
        if source.is_dir():
            tracking.client.log_artifacts(run_id, str(source), place)
        else:
            tracking.client.log_artifact(run_id, str(source), place)
    except (MlflowException, OSError) as problem:
        raise ServiceError(f"{source.name} can't be stored with run {run_id}: {problem}") from None


def fetch(tracking: Tracking, run_id: str, place: str, *, step: str) -> Path:
    """A local copy of something that `step` left with the run; fetched again when the step was run again elsewhere."""
    from mlflow.exceptions import MlflowException

    top = PurePosixPath(place).parts[0]
    local, mark = folder_of(tracking, run_id) / top, _local_mark(tracking, run_id, top)
    done = tags_of(tracking, run_id).get(f"{_DONE}.{step}", "")
    if local.exists() and mark.exists() and mark.read_text(encoding="utf-8") == done:
        return folder_of(tracking, run_id) / place
    try:
        with atomic_folder(tracking.work / "fetched" / f"{run_id}-{top}") as draft:
            found = Path(tracking.client.download_artifacts(run_id, top, str(draft)))
            local.parent.mkdir(parents=True, exist_ok=True)
            if local.is_dir():
                shutil.rmtree(local)
            found.rename(local)
        write_text(mark, done)
    except (MlflowException, OSError) as problem:
        raise DarkroomError(f"run {run_id} keeps no {place} that can be fetched: {problem}") from None
    return folder_of(tracking, run_id) / place


def new_folder(tracking: Tracking, run_id: str, place: str) -> Path:
    """An empty folder for what a step makes for the run: nothing of an attempt that was cut off stays in it."""
    folder = folder_of(tracking, run_id) / place
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def folder_of(tracking: Tracking, run_id: str) -> Path:
    """Where this machine keeps what it made for the run, or fetched of it."""
    return tracking.work / "runs" / run_id


def latest_done(tracking: Tracking, step: str) -> str | None:
    """The run that was used last of those on which the step was finished."""
    return _find(tracking, f"tags.`{_DONE}.{step}` != ''", newest_by=f"tags.`{_USED}`")


def made_from(tags: Mapping[str, str]) -> list[str]:
    """The runs whose models a run with these tags continued or joined."""
    return tags.get("darkroom.trained_from", "").split() + tags.get("darkroom.members", "").split()


def newest_done(tracking: Tracking, step: str, *, split_digest: str) -> str | None:
    """The run that was begun last of those of this split on which the step was finished."""
    return _find(tracking, f"tags.`{_DONE}.{step}` != '' AND tags.`darkroom.split_digest` = '{split_digest}'")


def step_of(tracking: Tracking, run_id: str) -> str | None:
    """The step that made the model of the run; None where there is no such run, or where it didn't get to its end."""
    from mlflow.exceptions import MlflowException

    try:
        tags = tags_of(tracking, run_id)
    except MlflowException:
        return None
    step = tags.get("darkroom.step")
    return step if f"{_DONE}.{step}" in tags else None


def note_use(tracking: Tracking, run_id: str) -> None:
    """Makes the run the one that was used last, whenever it was trained."""
    tracking.client.set_tag(run_id, _USED, datetime.now(UTC).isoformat())


def metric_history(tracking: Tracking, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(entry.step, entry.value) for entry in tracking.client.get_metric_history(run_id, name)]


def _local_mark(tracking: Tracking, run_id: str, place: str) -> Path:
    """Says which doing of the step the local copy is from."""
    return folder_of(tracking, run_id) / f"{place}.mark"


def _find(tracking: Tracking, condition: str, *, newest_by: str = "attributes.start_time") -> str | None:
    found = tracking.client.search_runs(
        [tracking.experiment_id], filter_string=condition, max_results=1, order_by=[f"{newest_by} DESC"]
    )
    return found[0].info.run_id if found else None


def _create_experiment(client: "MlflowClient", project: Project, name: str) -> str:
    from mlflow.exceptions import MlflowException

    location = artifact_folder(project).as_uri() if tracking_uri(project).startswith("sqlite:") else None
    try:
        created: str = client.create_experiment(name, artifact_location=location, tags={_KIND: _OF_MODELS})
    except MlflowException:
        # Somebody else was quicker.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        created = found.experiment_id
    return created


def _flat(prefix: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    else:
        yield prefix, value
