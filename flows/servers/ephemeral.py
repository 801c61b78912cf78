"""The Prefect server of a single command, for where no other serves the project."""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from components.shared.progress import silent
from flows.project.prefect_environment import prefect_variables
from flows.project.project import Project
from flows.project.running_servers import running_servers
from flows.servers.processes import HOST, PREFECT, SupervisedProcesses, hold_port, wait_until_healthy

logger = logging.getLogger(__name__)

_APPLICATION = "prefect.server.api.server:create_app"
_VARIABLES = {
    # As Prefect starts its own ephemeral server: without its pages and what only a lasting one needs.
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}


def prepare_prefect(project: Project) -> Callable[[], None]:
    """Uses the server that PREFECT_API_URL names, else the one that runs here, else an ephemeral one of this process.

    The latter takes seconds to start: it does so while the caller imports what it needs, and the returned function
    waits until it answers. Call it before Prefect is imported, which reads its settings then.
    """
    for name, value in prefect_variables(project).items():
        os.environ.setdefault(name, value)
    # Our own lines say what happens; Prefect's go to its log, where its page shows them.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if "PREFECT_API_URL" in os.environ:
        return lambda: None
    servers = running_servers(project)
    if servers is not None:
        os.environ["PREFECT_API_URL"] = f"{servers.prefect}/api"
        return lambda: None
    return _start(project)


def _start(project: Project) -> Callable[[], None]:
    """Not Prefect's own: that one is met by a Ctrl-C in the terminal, and outlives us where we are killed."""
    home = Path(os.environ["PREFECT_HOME"])
    if not (home / "prefect.db").exists():
        logger.info("the first start creates Prefect's database; this can take a minute")
    home.mkdir(parents=True, exist_ok=True)
    supervised, held = SupervisedProcesses(project), contextlib.ExitStack()
    port = hold_port(held, 0, "")
    command = [sys.executable, "-m", "uvicorn", "--factory", _APPLICATION, "--host", HOST, "--port", str(port)]
    supervised.start(PREFECT, [*command, "--log-level", "error", "--lifespan", "on"], {**os.environ, **_VARIABLES})
    # Before Prefect registers what it sends to the server at the end: the last one that registers goes first.
    atexit.register(supervised.stop)
    api = f"http://{HOST}:{port}/api"
    os.environ["PREFECT_API_URL"] = api

    def wait() -> None:
        with held:
            wait_until_healthy(supervised, {"Prefect": f"{api}/health"}, report=silent)

    return wait
