"""Projects to try things in: real folders, real images made here, real DVC; nothing of the machine's own project."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from projects import clean_environment, free_port, isolate, new_project, write_shapes
from sqlalchemy import event
from sqlalchemy.engine import Engine

_MARK = "DARKROOM_TESTS"
"""The environment variable by which a session of tests knows its own processes."""
_GUARD = """
import os, signal, subprocess, sys, threading
def end_with_the_tests():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_the_tests, daemon=True).start()
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
"""
"""Runs a command, and kills all of its group once standard input is closed: by the tests, or by their own end."""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run side by side, and threads of nets this small only wait for one another; children do as their parent."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def databases_without_syncs() -> None:
    """What tests write into SQLite need not outlast a power cut: the first start of MLflow's waits for many syncs."""

    def hurry(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)


@pytest.fixture(autouse=True, scope="module")
def environment_as_it_was() -> Iterator[None]:
    """What a module leaves in the environment, MLflow's address above all, is gone before the next.

    So are the folders of packages that were loaded: new processes would look there for Darkroom's own modules.
    """
    before, places = dict(os.environ), list(sys.path)
    yield
    sys.path[:] = places
    if "mlflow" in sys.modules:
        # It remembers its addresses in the process too.
        sys.modules["mlflow"].set_tracking_uri(None)
        sys.modules["mlflow"].set_registry_uri(None)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="session")
def nothing_left_behind() -> Iterator[None]:
    """What tests started, servers above all, ends with the session, whatever became of the tests."""
    mark = uuid.uuid4().hex
    os.environ[_MARK] = mark
    yield
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(_MARK) == mark:
                process.kill()


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project like a fresh clone, and the working directory of the test."""
    folder = new_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    isolate(monkeypatch)
    return folder


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Three classes of forty drawn shapes, a folder a class."""
    return write_shapes(tmp_path / "shapes")


@pytest.fixture
def darkroom(project_folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the console command in the project, as a person would."""

    def call(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flows.cli.main", *arguments],
            cwd=project_folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return call


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a real Prefect server that serves the whole test session."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    environment = clean_environment(PREFECT_HOME=str(home), PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", _GUARD, *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/health", server, home / "server.log")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        # A process that a test forked and left would keep the guard's input open.
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        try:
            urlopen(address, timeout=1).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"the Prefect server does not answer: {log.read_text()}")
