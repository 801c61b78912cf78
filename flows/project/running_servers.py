"""Which servers run for this project, as another process wrote it down."""

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit

from components.shared.files import read_json
from flows.project.project import Project
from flows.project.proxies import request

if TYPE_CHECKING:
    from filelock import BaseFileLock

_ANSWER_SECONDS = 0.5


@dataclass(frozen=True)
class Servers:
    prefect: str
    """Address of the page, such as http://127.0.0.1:4200; its API is below /api."""
    mlflow: str


def running_servers(project: Project) -> Servers | None:
    """The servers that `darkroom ui` or `darkroom up` started here, when both still listen."""
    if not project.servers.exists() or not _somebody_serves(project):
        return None
    servers = Servers(**read_json(project.servers))
    return servers if _listens(servers.prefect) and _listens(servers.mlflow) else None


def serving_lock(project: Project) -> "BaseFileLock":
    """Held for as long as somebody serves here; the system lets go of it however that process ends."""
    from filelock import FileLock

    project.home.mkdir(parents=True, exist_ok=True)
    return FileLock(project.home / "servers.lock")


def is_healthy(address: str, *, timeout: float = 2.0) -> bool:
    """Whether the server's health page answers that all is well."""
    return ailment(address, timeout=timeout) is None


def ailment(address: str, *, timeout: float = 2.0) -> str | None:
    """What the server's health page says instead of that all is well, or why it says nothing."""
    try:
        with request(address, timeout=timeout) as answer:
            return None if answer.status == 200 else f"it answers {answer.status}"
    except HTTPError as answer:
        # It answers, but wants to know who asks: that is found out by the first real request.
        return None if answer.code in (401, 403) else f"it answers {answer.code} {answer.reason}"
    except (URLError, OSError, ValueError) as problem:
        return str(getattr(problem, "reason", problem))


def refusal(address: str, *, timeout: float = 2.0) -> str | None:
    """Why the server doesn't answer; None when it does, be it with a refusal."""
    try:
        # A name and password are for the client's requests: here they would be taken for a part of the host.
        request(without_password(address), timeout=timeout).close()
    except HTTPError:
        return None
    except (URLError, OSError, ValueError) as problem:
        return str(getattr(problem, "reason", problem))
    return None


def without_password(address: str) -> str:
    """The address as it may be printed, and as urllib takes it."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _somebody_serves(project: Project) -> bool:
    """False for a record left by a killed process, whose ports another project's servers may use by now."""
    from filelock import Timeout

    lock = serving_lock(project)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def _listens(address: str) -> bool:
    place = urlsplit(address)
    try:
        socket.create_connection((str(place.hostname), int(place.port or 80)), timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
