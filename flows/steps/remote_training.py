"""Training on a worker: the caller waits, and finds the result in MLflow."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from components.shared.errors import DarkroomError, ServiceError, nearest
from flows.project.child_process import Event
from flows.project.fingerprint import Facts
from flows.servers.deployments import registered_deployments
from flows.session.session import Prepared, Session, open_session
from flows.steps.prepare import Prepare
from flows.steps.step import run_all, run_as_task
from flows.steps.train import Train, train_fingerprint
from flows.steps.training_run import TrainingStopped
from flows.tracking import runs

logger = logging.getLogger(__name__)

_POLL_SECONDS = 2.0


def train_on(
    deployment: str,
    session: Session,
    prepared: Prepared,
    *,
    values: Facts | None = None,
    parent_run: str | None = None,
    while_waiting: Callable[[], None] = lambda: None,
) -> str | None:
    """Has the model trained by a worker of the deployment's pool, unless it is trained already; returns its run.

    That worker reads the same params.yaml and the same data, in the same folder: nothing is handed over but the
    `values` in which the session differs from that file. None where the training was asked to stop.
    """
    key = train_fingerprint(session, prepared)
    done = runs.find_done(session.tracking, "train", key)
    if done is not None:
        return done
    logger.info(f"training goes to {deployment}, and waits there for a worker of its pool")
    extra = {"values": {**session.values, **(values or {})} or None, "parent_run": parent_run}
    handed = {"project": str(session.project.root)} | {name: one for name, one in extra.items() if one is not None}
    flow_run: Any = run_deployment(deployment, parameters=handed, timeout=0)
    state = _wait(flow_run.id, while_waiting)
    if not state.is_completed():
        raise DarkroomError(
            f"{deployment} did not finish ({state.name}: {state.message}); its log stands on Prefect's page"
        )
    done = runs.find_done(session.tracking, "train", key)
    begun = runs.find_started(session.tracking, "train", key)
    if done is None and begun is not None and runs.asked_to_stop(session.tracking, begun) is not None:
        return None
    # Else the caller would train again itself, unasked and on its own processor.
    if done is None:
        raise DarkroomError(
            f"{deployment} finished, but its model is not in {session.tracking.experiment}: "
            "its worker has other settings, other code or another MLflow server than this one"
        )
    return done


@flow(name="train")
def train(
    overrides: list[str] | None = None,
    project: str | None = None,
    values: dict[str, Any] | None = None,
    parent_run: str | None = None,
) -> str:
    """What the worker runs: trains on the current data, brought up to date first; returns the MLflow run.

    `values`, such as {"train.epochs": 3}, hold for this training alone; params.yaml stays as it is. A training with a
    `parent_run` ends early where `runs.ask_to_stop` asks for it.
    """
    session = open_session(project, overrides)
    # What a search or a comparison hands over may be the settings of the stages, whose result it found to be the same.
    session = replace(session, params=session.params.with_values(values or {}), values=values or {})
    results = run_all([Prepare()], session)
    session = session.for_data()

    def stop_where_asked(run_id: str, _: Event) -> None:
        reason = runs.asked_to_stop(session.tracking, run_id)
        if reason is not None:
            raise TrainingStopped(reason)

    if parent_run is None:
        return run_as_task(Train(), session, results).run_id
    try:
        # No task, for Prefect takes each exception for a failure.
        return Train(parent_run=parent_run, on_epoch=stop_where_asked).run(session, results).run_id
    except TrainingStopped as stopped:
        logger.info(f"stopped: {stopped}")
        return runs.find_started(session.tracking, "train", Train().fingerprint(session, results)) or ""


def require_deployment(name: str) -> None:
    """Raises ServiceError where the Prefect server knows no deployment of this name, such as train/gpu."""
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(name)
        except (ObjectNotFound, ValueError):
            hint = nearest(name, registered_deployments()) or "; register it with `darkroom deploy`"
            raise ServiceError(f"there is no deployment {name}{hint}") from None


def _wait(flow_run: Any, while_waiting: Callable[[], None]) -> State[Any]:
    """The state in which the run of the deployment ended."""
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(flow_run).state
            if state is not None and state.is_final():
                return state
            while_waiting()
            time.sleep(_POLL_SECONDS)
