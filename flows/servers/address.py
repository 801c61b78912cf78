"""Which servers run for this project, as another process wrote it down."""

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from components.files import read_json
from flows.project import Project

_ANSWER_SECONDS = 0.5


@dataclass(frozen=True)
class Servers:
    prefect: str
    """Address of the page, such as http://127.0.0.1:4200; its API is below /api."""
    mlflow: str


def running_servers(project: Project) -> Servers | None:
    """The servers that `darkroom ui` or `darkroom up` started here, when both still listen."""
    if not project.servers.exists():
        return None
    servers = Servers(**read_json(project.servers))
    return servers if _listens(servers.prefect) and _listens(servers.mlflow) else None


def _listens(address: str) -> bool:
    place = urlsplit(address)
    try:
        socket.create_connection((str(place.hostname), int(place.port or 80)), timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
