"""Deployments of infra/prefect.yaml, and workers that join a pool from another shell."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from components.shared.errors import DarkroomError, ServiceError, SettingsError, nearest
from components.shared.plural import counted
from flows.project.child_process import last_lines
from flows.project.prefect_environment import prefect_variables
from flows.project.project import Project, open_project
from flows.project.running_servers import Servers, is_healthy, running_servers
from flows.servers.pools import POOLS, device_note, worker_command, worker_variables
from flows.tracking.connection import tracking_uri

logger = logging.getLogger(__name__)

_PREFECT_FILE = Path("infra") / "prefect.yaml"
_MOST = 200  # of what the server lists at once


def deploy_all() -> None:
    """Registers every deployment of infra/prefect.yaml, making the pools that are missing."""
    project = open_project()
    api = prefect_api(project)
    file = project.root / _PREFECT_FILE
    if not file.exists():
        raise SettingsError(f"{file} is missing; it says what to deploy")
    os.environ.update(_variables(project, api))
    pools = _work_pools(file)
    logger.info(f"registering {counted(len(pools), 'deployment')} with {api}, which takes some seconds")
    _make_pools(sorted(set(pools)))
    _prefect_deploy(project, file)
    for name, description in registered_deployments().items():
        print(f"{name}: {description}", flush=True)


def run_worker(pool: str) -> None:
    """Becomes a worker of the pool, until Ctrl-C; doesn't return."""
    if pool not in POOLS:
        raise SettingsError(f"there is no pool {pool}{nearest(pool, POOLS) or '; there are ' + ' and '.join(POOLS)}")
    project = open_project()
    servers = Servers(prefect=prefect_api(project).removesuffix("/api"), mlflow=tracking_uri(project))
    variables = worker_variables(project, servers)
    Path(variables["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    logger.info(f"joining pool {pool} of {servers.prefect}{device_note(pool)}; Ctrl-C leaves it")
    os.chdir(project.root)
    command = worker_command(pool)
    os.execve(command[0], command, variables)


def prefect_api(project: Project) -> str:
    """The API of the server that PREFECT_API_URL names, else of the one that runs here; ServiceError if neither."""
    chosen = os.environ.get("PREFECT_API_URL")
    if chosen:
        if not is_healthy(f"{chosen.rstrip('/')}/health"):
            raise ServiceError(
                f"the Prefect server {chosen} doesn't answer; start it, or correct or unset PREFECT_API_URL"
            )
        return chosen.rstrip("/")
    servers = running_servers(project)
    if servers is None:
        raise ServiceError("no Prefect server runs for this project; start one with `darkroom up` in another shell")
    return f"{servers.prefect}/api"


def _variables(project: Project, api: str) -> dict[str, str]:
    own = prefect_variables(project)
    return {**{name: os.environ.get(name, value) for name, value in own.items()}, "PREFECT_API_URL": api}


def _work_pools(file: Path) -> list[str]:
    """The work pool of each deployment."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
        return [str(deployment["work_pool"]["name"]) for deployment in content["deployments"]]
    except (YAMLError, KeyError, TypeError) as problem:
        raise SettingsError(
            f"{file} can't be read ({problem}); each of its deployments needs a work_pool.name"
        ) from None


def _make_pools(names: list[str]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        known = {pool.name for pool in client.read_work_pools(limit=_MOST)}
        for name in names:
            if name not in known:
                template = ProcessWorker.get_default_base_job_template()
                client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))


def _prefect_deploy(project: Project, file: Path) -> None:
    log = project.logs / "deploy.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    with log.open("wb") as output:
        code = subprocess.call(command, cwd=project.root, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if code != 0:
        raise DarkroomError(f"`prefect deploy` stopped with exit code {code}: {last_lines(log)} (all of it in {log})")


def registered_deployments() -> dict[str, str]:
    """Every deployment that the server has, as FLOW/NAME, and what it does by itself."""
    from prefect.client.orchestration import get_client

    found = {}
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments(limit=_MOST):
            flow = client.read_flow(deployment.flow_id)
            plan = [_when(schedule) for schedule in deployment.schedules]
            found[f"{flow.name}/{deployment.name}"] = (
                f"pool {deployment.work_pool_name}, {', '.join(plan) or 'on request'}"
            )
    return found


def _when(entry: Any) -> str:
    schedule = entry.schedule
    text = getattr(schedule, "cron", None) or getattr(schedule, "rrule", None) or f"every {schedule.interval}"
    return f"at {text} {schedule.timezone or 'UTC'}" + ("" if entry.active else " (paused)")
