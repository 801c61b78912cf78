"""The servers and workers that `darkroom ui` and `darkroom up` run: real processes on loopback that end with us."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from components.shared.errors import DarkroomError, ServiceError
from components.shared.files import write_json
from components.shared.plural import counted
from components.shared.progress import Progress
from flows.console.console import progress
from flows.project.child_process import last_lines
from flows.project.prefect_environment import prefect_variables
from flows.project.project import Project, open_project
from flows.project.running_servers import Servers, ailment, is_healthy, running_servers, serving_lock
from flows.servers.attached import STOP_SECONDS
from flows.servers.pools import POOLS as POOLS
from flows.servers.pools import device_note, worker_command, worker_variables
from flows.servers.stale_runs import close_dead_runs
from flows.tracking.connection import artifact_folder, database_uri
from flows.tracking.relocation import update_addresses

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PREFECT, MLFLOW = "Prefect server", "MLflow server"
_START_SECONDS = 180.0
_LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Child:
    """A server or a worker, held by flows.servers.attached: it ends when its standard input does."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def note(self, sentence: str) -> None:
        """Adds a line of ours to what it printed."""
        with self.log.open("a", encoding="utf-8") as log:
            print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {sentence}", file=log)


@dataclass
class SupervisedProcesses:
    """Everything that was started here, in the order in which it came up."""

    project: Project
    children: list[Child] = field(default_factory=list)
    api: str | None = None
    """Of the Prefect server, when it was started here."""

    def start(self, name: str, command: list[str], variables: Mapping[str, str]) -> None:
        log = self.project.logs / f"{name.replace(' ', '-').lower()}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        # Appending, so that what we note and what it prints stand one after the other.
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.servers.attached", *command],
                cwd=self.project.root,
                env=dict(variables),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal reaches us alone, so that we can stop the rest in order.
                start_new_session=True,
            )
        self.children.append(Child(name, process, log))

    def require_alive(self) -> None:
        """Raises DarkroomError for the first one that ended by itself."""
        for child in self.children:
            code = child.process.poll()
            if code is not None:
                raise DarkroomError(
                    f"the {child.name} stopped with exit code {code}, so everything was stopped: "
                    f"{last_lines(child.log)} (all of it in {child.log})"
                )

    def stop(self) -> None:
        """Workers first, while a server still runs that can record how their runs ended."""
        servers = [child for child in self.children if child.name in (PREFECT, MLFLOW)]
        workers = [child for child in self.children if child not in servers]
        _stop(workers)
        if workers and self.api is not None:
            # Where the server doesn't answer any more, the next start records it.
            with contextlib.suppress(OSError):
                close_dead_runs(self.api)
        _stop(servers)
        self.children.clear()


def _stop(children: list[Child]) -> None:
    for child in children:
        if child.process.stdin is not None:
            child.process.stdin.close()
    deadline = time.monotonic() + STOP_SECONDS + 5.0
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def serve(*, pools: tuple[str, ...], prefect_port: int, mlflow_port: int) -> None:
    """Runs both servers and a worker a pool until Ctrl-C or SIGTERM; raises when one of them ends by itself."""
    project = open_project()
    with _only_one(project), _supervised(project) as supervised:
        try:
            servers = _start_servers(supervised, prefect_port, mlflow_port)
            write_json(project.servers, asdict(servers))
            print(f"Prefect  {servers.prefect}\nMLflow   {servers.mlflow}", flush=True)
            if supervised.api is not None:
                _close_dead_runs(supervised.api)
            for pool in pools:
                supervised.start(f"{pool} worker", worker_command(pool), worker_variables(project, servers))
                logger.info(f"a worker joins pool {pool}{device_note(pool)}")
            logger.info("Ctrl-C stops everything")
            while True:
                supervised.require_alive()
                time.sleep(_LOOK_EVERY_SECONDS)
        except KeyboardInterrupt:
            logger.info("stopping")
            stopped = ", ".join(child.name for child in supervised.children)
    logger.info(f"stopped: {stopped or 'nothing was started here'}")


@contextlib.contextmanager
def _only_one(project: Project) -> Iterator[None]:
    from filelock import Timeout

    lock = serving_lock(project)
    try:
        # Others look at the lock for an instant when they ask whether somebody serves.
        lock.acquire(timeout=1.0)
    except Timeout:
        servers = running_servers(project)
        where = (
            f"Prefect {servers.prefect}, MLflow {servers.mlflow}" if servers else "they are about to start or to stop"
        )
        raise ServiceError(
            f"the servers of this project run already ({where}); use them, or stop them with Ctrl-C where they run"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _supervised(project: Project) -> Iterator[SupervisedProcesses]:
    supervised = SupervisedProcesses(project)
    try:
        yield supervised
    finally:
        # First of all, so that nobody finds servers that are about to go.
        project.servers.unlink(missing_ok=True)
        supervised.stop()


def _start_servers(supervised: SupervisedProcesses, prefect_port: int, mlflow_port: int) -> Servers:
    """Starts what the environment doesn't name already, and waits until both answer."""
    with contextlib.ExitStack() as held:
        prefect, prefect_health = _prefect_server(supervised, held, prefect_port)
        mlflow, mlflow_health = _mlflow_server(supervised, held, mlflow_port)
        started = " and the ".join(child.name for child in supervised.children)
        if started:
            logger.info(f"starting the {started}; the first start can take a minute")
        wait_until_healthy(supervised, {"Prefect": prefect_health, "MLflow": mlflow_health}, report=progress())
    return Servers(prefect, mlflow)


def _close_dead_runs(api: str) -> None:
    closed = close_dead_runs(api)
    if closed:
        logger.warning(
            f"{counted(closed, 'run was', 'runs were')} cut off when the servers were killed; marked as crashed"
        )


def _prefect_server(supervised: SupervisedProcesses, held: contextlib.ExitStack, port: int) -> tuple[str, str]:
    """The page's and the health page's address."""
    outside = os.environ.get("PREFECT_API_URL")
    if outside:
        api = outside.rstrip("/")
        _require_outside("PREFECT_API_URL", outside, f"{api}/health")
        return api.removesuffix("/api"), f"{api}/health"
    port = hold_port(held, port, "--prefect-port")
    page = f"http://{HOST}:{port}"
    variables = {**prefect_variables(supervised.project), **os.environ, **_prefect_server_variables(port)}
    Path(variables["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--host", HOST, "--port", str(port)]
    supervised.start(PREFECT, command, variables)
    supervised.api = f"{page}/api"
    return page, f"{page}/api/health"


def _prefect_server_variables(port: int) -> dict[str, str]:
    return {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        # The page asks this address, whatever port the server was given.
        "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
        # Kept in memory, the slot of a run that died with the server would stay taken forever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }


def _mlflow_server(supervised: SupervisedProcesses, held: contextlib.ExitStack, port: int) -> tuple[str, str]:
    """The page's and the health page's address."""
    outside = os.environ.get("MLFLOW_TRACKING_URI")
    if outside and outside.startswith(("http://", "https://")):
        page = outside.rstrip("/")
        _require_outside("MLFLOW_TRACKING_URI", outside, f"{page}/health")
        return page, f"{page}/health"
    project = supervised.project
    artifacts = artifact_folder(project)
    artifacts.mkdir(parents=True, exist_ok=True)
    update_addresses(project)
    port = hold_port(held, port, "--mlflow-port")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", outside or database_uri(project)]
    # Runs keep the folder's own address, so that they are read in the same way when no server runs.
    command += ["--no-serve-artifacts", "--default-artifact-root", artifacts.as_uri()]
    supervised.start(MLFLOW, command, {**os.environ, **_MLFLOW_SERVER_VARIABLES})
    page = f"http://{HOST}:{port}"
    return page, f"{page}/health"


_MLFLOW_SERVER_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    # Its background jobs evaluate language models; they would cost five processes.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def _require_outside(variable: str, address: str, health: str) -> None:
    if not is_healthy(health):
        raise ServiceError(f"{variable} names {address}, which doesn't answer; start that server, or unset {variable}")


def hold_port(held: contextlib.ExitStack, port: int, option: str) -> int:
    """The port, or any free one for 0, kept from others until the server has it."""
    holder = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    # Both sides set this, so the server may listen where we are bound without listening.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((HOST, port))
    except (OSError, OverflowError) as problem:
        raise ServiceError(
            f"port {port} can't be used ({_reason(problem)}); choose another with {option}, 0 takes any free one"
        ) from None
    return int(holder.getsockname()[1])


def _reason(problem: Exception) -> str:
    import errno

    if isinstance(problem, OSError) and problem.errno == errno.EADDRINUSE:
        return "another program uses it"
    return problem.strerror if isinstance(problem, OSError) and problem.strerror else "it must be 0 to 65535"


def wait_until_healthy(
    supervised: SupervisedProcesses, health: Mapping[str, str], *, report: Progress, seconds: float = _START_SECONDS
) -> None:
    """Until all of these health pages answer; raises DarkroomError where a server ends, or takes too long."""
    missing = dict(health)
    deadline = time.monotonic() + seconds
    while missing:
        supervised.require_alive()
        ailments = {name: ailment(address) for name, address in missing.items()}
        missing = {name: address for name, address in missing.items() if ailments[name] is not None}
        report("servers that answer", len(health) - len(missing), len(health))
        if missing and time.monotonic() > deadline:
            said = "; ".join(f"{name} at {address}: {ailments[name]}" for name, address in missing.items())
            for child in supervised.children:
                child.note(f"darkroom asked for {seconds:.0f} s whether all is well, and stops this server: {said}")
            logs = ", ".join(str(child.log) for child in supervised.children)
            raise DarkroomError(
                f"{' and '.join(missing)} didn't answer within {seconds:.0f} s ({said}); what the servers said is in "
                f"{logs}"
            )
        time.sleep(_LOOK_EVERY_SECONDS)
