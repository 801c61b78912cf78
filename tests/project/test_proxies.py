"""Which requests go through a proxy, by a real one that counts what it is asked and a real server on loopback."""

import os
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError
from urllib.request import Request, install_opener, urlopen

import httpx
import pytest
import requests
from projects import free_port

from components.shared.errors import DarkroomError
from components.shared.progress import silent
from flows.project.project import Project
from flows.project.proxies import bypass_proxies
from flows.project.proxies import request as own_request
from flows.servers.processes import SupervisedProcesses, wait_until_healthy

_SETTINGS = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_CLIENTS: dict[str, Callable[[str], str]] = {
    "requests": lambda address: requests.get(address, timeout=5).text,
    "httpx": lambda address: httpx.get(address, timeout=5).text,
    "urllib": lambda address: _text(urlopen(address, timeout=5)),
    "ours": lambda address: _text(own_request(address, timeout=5)),
}


def _text(answer: Any) -> str:
    with answer:
        return str(answer.read().decode())


class _Server(ThreadingHTTPServer):
    def __init__(self, says: str) -> None:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(says.encode())

            def log_message(self, *_: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Answer)
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@pytest.fixture(scope="module")
def server() -> Iterator[_Server]:
    started = _Server("server")
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def proxy() -> Iterator[_Server]:
    started = _Server("proxy")
    yield started
    started.shutdown()


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    before = dict(os.environ)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    # It remembers the proxies of its first request.
    install_opener(None)  # type: ignore[arg-type]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("client", _CLIENTS)
@pytest.mark.parametrize("setting", _SETTINGS)
def test_no_client_asks_a_proxy_for_our_own_servers(setting: str, client: str, host: str, server: _Server) -> None:
    os.environ[setting] = f"http://127.0.0.1:{free_port()}"
    bypass_proxies()
    assert _CLIENTS[client](f"http://{host}:{server.port}/") == "server"


@pytest.mark.parametrize("client", _CLIENTS)
@pytest.mark.parametrize("setting", ["http_proxy", "HTTP_PROXY"])
def test_requests_to_the_outside_still_go_through_the_proxy(setting: str, client: str, proxy: _Server) -> None:
    os.environ[setting] = f"http://127.0.0.1:{proxy.port}"
    bypass_proxies()
    assert _CLIENTS[client]("http://somewhere.invalid/") == "proxy"


@pytest.mark.parametrize("client", _CLIENTS)
@pytest.mark.parametrize("spelling", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("theirs", ["127.0.0.9", "*", "10.0.0.0/8, 127.0.0.9,"])
def test_what_the_user_excepted_stays_excepted(
    theirs: str, spelling: str, client: str, server: _Server, proxy: _Server
) -> None:
    os.environ |= {"http_proxy": f"http://127.0.0.1:{proxy.port}", spelling: theirs}
    bypass_proxies()
    bypass_proxies()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"]
    assert os.environ["NO_PROXY"].startswith(theirs.rstrip(","))
    with pytest.raises((OSError, httpx.ConnectError)):
        # Nobody listens there: the proxy would have answered.
        _CLIENTS[client](f"http://127.0.0.9:{free_port()}/")
    assert _CLIENTS[client](f"http://127.0.0.1:{server.port}/") == "server"


def test_each_spelling_keeps_its_own_hosts() -> None:
    os.environ |= {"https_proxy": "http://proxy.invalid", "no_proxy": "a.example", "NO_PROXY": "b.example"}
    bypass_proxies()
    assert os.environ["no_proxy"] == "a.example,localhost,127.0.0.1,::1"
    assert os.environ["NO_PROXY"] == "b.example,localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("http://127.0.0.2:4200/api", "127.0.0.2"),
        ("http://0.0.0.0:4200/api", "0.0.0.0"),
        ("http://user:secret@mlflow.localhost:5000", "mlflow.localhost"),
        ("http://[::1]:4200/api", None),
        ("https://mlflow.example.org", None),
        ("sqlite:////home/me/mlflow.db", None),
        ("http://[broken", None),
    ],
)
@pytest.mark.parametrize("variable", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_servers_that_the_environment_names_are_excepted_where_they_are_here(
    variable: str, address: str, host: str | None
) -> None:
    os.environ |= {"HTTPS_PROXY": "http://proxy.invalid", variable: address}
    bypass_proxies()
    assert os.environ["no_proxy"].split(",") == ["localhost", "127.0.0.1", "::1", *([host] if host else [])]


def test_nothing_changes_where_no_proxy_is_set() -> None:
    before = dict(os.environ)
    bypass_proxies()
    assert dict(os.environ) == before


def test_our_own_requests_ask_no_proxy_for_ipv6_either(proxy: _Server) -> None:
    os.environ["http_proxy"] = f"http://127.0.0.1:{proxy.port}"
    with pytest.raises(URLError):
        # Nobody listens there: the proxy would have answered.
        own_request(Request(f"http://[::1]:{free_port()}/"), timeout=5)


def test_a_server_that_does_not_answer_is_described_in_the_error_and_in_its_log(tmp_path: Path) -> None:
    supervised = SupervisedProcesses(Project(tmp_path, tmp_path / ".darkroom"))
    port = free_port()
    try:
        supervised.start("silent server", [sys.executable, "-c", "import time; time.sleep(600)"], os.environ)
        with pytest.raises(DarkroomError, match=rf"it at http://127.0.0.1:{port}/health: .*refused") as found:
            wait_until_healthy(supervised, {"it": f"http://127.0.0.1:{port}/health"}, report=silent, seconds=0.2)
        log = supervised.children[0].log
        assert str(log) in str(found.value)
        assert "refused" in log.read_text()
    finally:
        supervised.stop()
