"""Work that another worker does: the pipeline waits, and finds what came of it in MLflow."""

from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment

from components.errors import DarkroomError
from flows.console import say
from flows.prepare import Prepared
from flows.session import Session
from flows.tracking import runs
from flows.train import train_fingerprint


def train_on(deployment: str, session: Session, prepared: Prepared) -> None:
    """Has the model trained by a worker of the deployment's pool, unless it is trained already."""
    if runs.find_done(session.tracking, "train", train_fingerprint(session, prepared)) is not None:
        return
    say(f"training goes to {deployment}")
    flow_run = run_deployment(deployment, parameters={"project": str(session.project.root)})
    state: State | None = flow_run.state  # type: ignore[union-attr]
    if state is None or not state.is_completed():
        reason = state.message if state is not None else "no state"
        raise DarkroomError(f"{deployment} did not finish ({reason}); is a worker of its pool running?")
