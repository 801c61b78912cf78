"""Which tracking server, and whether it answers. SQLite in the project by default, another by MLFLOW_TRACKING_URI."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from components.shared.errors import ServiceError
from flows.project.project import Project
from flows.project.proxies import bypass_proxies
from flows.project.running_servers import refusal, running_servers, without_password
from flows.tracking.relocation import update_addresses

if TYPE_CHECKING:
    from mlflow import MlflowClient

UI_PORT = 5000
"""Where `darkroom ui` and `darkroom up` show MLflow's pages, unless they are given another port."""
UI_ADDRESS = f"http://127.0.0.1:{UI_PORT}"
_ANSWER_SECONDS = 5.0


def tracking_uri(project: Project) -> str:
    """MLFLOW_TRACKING_URI, else the server that runs here, else the project's own SQLite file."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    if chosen:
        return chosen
    servers = running_servers(project)
    return servers.mlflow if servers is not None else database_uri(project)


def database_uri(project: Project) -> str:
    return f"sqlite:///{project.home / 'mlflow' / 'mlflow.db'}"


def artifact_folder(project: Project) -> Path:
    return project.home / "mlflow" / "artifacts"


def connect(project: Project) -> "MlflowClient":
    """A client of a server that answers; raises ServiceError naming the address of one that doesn't."""
    # Also for who comes by another way than our commands, such as a worker that somebody else started.
    bypass_proxies()
    uri = tracking_uri(project)
    if uri.startswith(("http://", "https://")):
        _require_answer(uri)
    elif uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        if uri == database_uri(project):
            update_addresses(project)
    elif "://" not in uri or uri.startswith("file:"):
        raise ServiceError(
            f"MLFLOW_TRACKING_URI is {uri}: MLflow keeps no runs in plain folders; use sqlite:/// or http://"
        )
    quiet_mlflow()
    import mlflow

    with _same_environment():
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(uri)


@contextmanager
def _same_environment() -> Iterator[None]:
    """MLflow writes its addresses into the environment: another project of this process would be given them."""
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Pages:
    """Where a person sees what a run left on the tracking server."""

    experiment: str
    run: str
    version: str
    served: bool
    """Whether a server shows them now; else `darkroom ui` has to run, on its usual port."""


def pages(project: Project, *, experiment_id: str, run_id: str, name: str, version: str) -> Pages:
    server = _server(project)
    address = server or UI_ADDRESS
    experiment = f"{address}/#/experiments/{experiment_id}"
    return Pages(
        experiment=f"{experiment}/runs",
        run=f"{experiment}/runs/{run_id}",
        version=_version_page(address, name, version),
        served=server is not None,
    )


def version_page(project: Project, name: str, number: str) -> str | None:
    """Where a person sees a registered version; None where no server runs that would show it."""
    server = _server(project)
    return _version_page(server, name, number) if server is not None else None


def _version_page(address: str, name: str, number: str) -> str:
    return f"{address}/#/models/{quote(name, safe='')}/versions/{number}"


def _server(project: Project) -> str | None:
    """The address of a server that shows pages; None where there is only the database."""
    uri = tracking_uri(project)
    return without_password(uri).rstrip("/") if uri.startswith(("http://", "https://")) else None


def quiet_mlflow() -> None:
    """Its bars and hints would stand between our own lines."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    warnings.filterwarnings("ignore", module="mlflow")
    logging.getLogger("alembic").setLevel(logging.ERROR)
    import mlflow

    # Importing it sets up its log.
    logging.getLogger(mlflow.__name__).setLevel(logging.ERROR)


def _require_answer(uri: str) -> None:
    reason = refusal(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS)
    if reason is not None:
        raise ServiceError(
            f"the tracking server {without_password(uri)} doesn't answer ({reason}); start it, or correct "
            "MLFLOW_TRACKING_URI"
        )
