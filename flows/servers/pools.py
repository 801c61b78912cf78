"""Work pools, and how a worker of one is started: by `darkroom up` as its child, by `darkroom worker` in its place."""

import os
import platform
import sys

from flows.project.gpu import num_gpus
from flows.project.prefect_environment import prefect_variables
from flows.project.project import Project
from flows.project.running_servers import Servers

POOLS = ("cpu", "gpu")
PROJECT_VARIABLE = "DARKROOM_PROJECT"
"""Where a worker's runs work: infra/prefect.yaml sets the working folder from it."""

_RUNS_AT_ONCE = {"cpu": 2, "gpu": 1}
"""A worker is a machine: two trainings on one GPU would only take each other's memory."""


def worker_command(pool: str) -> list[str]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", pool, "--type", "process"]
    # Workers of one pool differ by their names.
    name = f"{pool} on {platform.node()} ({os.getpid()})"
    return [*command, "--name", name, "--limit", str(_RUNS_AT_ONCE[pool]), "--install-policy", "never"]


def worker_variables(project: Project, servers: Servers) -> dict[str, str]:
    """The environment of a worker, which every run of its inherits."""
    return {
        **prefect_variables(project),
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        **os.environ,
        "PREFECT_API_URL": f"{servers.prefect}/api",
        "MLFLOW_TRACKING_URI": servers.mlflow,
        PROJECT_VARIABLE: str(project.root),
    }


def device_note(pool: str) -> str:
    """What a person should know about this machine before work of the pool comes to it."""
    if pool != "gpu":
        return ""
    found = num_gpus()
    return f" with {found} of this machine's GPUs" if found else "; this machine has no GPU, so it trains on the CPU"
