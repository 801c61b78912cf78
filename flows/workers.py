"""Work that another worker does: the pipeline waits, and finds what came of it in MLflow."""

from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from components.errors import DarkroomError, ServiceError
from flows.console import say
from flows.prepare import Prepared
from flows.session import Session
from flows.tracking import runs
from flows.train import train_fingerprint


def train_on(deployment: str, session: Session, prepared: Prepared) -> None:
    """Has the model trained by a worker of the deployment's pool, unless it is trained already.

    That worker reads the same params.yaml and the same data, in the same folder: nothing else is handed over.
    """
    mark = train_fingerprint(session, prepared)
    if runs.find_done(session.tracking, "train", mark) is not None:
        return
    say(f"training goes to {deployment}, and waits there for a worker of its pool")
    try:
        flow_run = run_deployment(deployment, parameters={"project": str(session.project.root)})
    except ObjectNotFound:
        raise ServiceError(f"there is no deployment {deployment}; register it with `darkroom deploy`") from None
    state: State | None = flow_run.state  # type: ignore[union-attr]
    if state is None or not state.is_completed():
        reason = f"{state.name}: {state.message}" if state is not None else "no state"
        raise DarkroomError(f"{deployment} did not finish ({reason}); its log stands on Prefect's page")
    # Else the pipeline would train again itself, unasked and on its own processor.
    if runs.find_done(session.tracking, "train", mark) is None:
        raise DarkroomError(
            f"{deployment} finished, but its model is not in {session.tracking.experiment}: "
            "its worker has other settings, other code or another MLflow server than this one"
        )
