"""Settings of Prefect that must stand in the environment before it is imported, and its short-lived server."""

import os
import threading
from collections.abc import Callable

from flows.project import Project
from flows.servers.address import running_servers


def prepare_prefect(project: Project) -> Callable[[], None]:
    """Uses the server that PREFECT_API_URL names, else the one that runs here, else a short-lived one of this process.

    The latter takes seconds to start: it does so while the caller imports what it needs, and the returned function
    waits until it answers.
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
    # The server's database lies there, and Prefect doesn't make the folder's parents.
    (project.home / "prefect").mkdir(parents=True, exist_ok=True)
    starting = threading.Thread(target=_start_server, daemon=True)
    starting.start()
    return starting.join


def prefect_variables(project: Project) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(project.home / "prefect"),
        # The first start makes a database: 20 to 40 seconds on a small machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def _start_server() -> None:
    from prefect.server.api.server import SubprocessASGIServer

    # One instance a process: the flow engine finds this one when it asks for a server.
    SubprocessASGIServer().start()
