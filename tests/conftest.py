"""Projects to try things in: real folders, real images made here, real DVC; nothing of the machine's own project."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project like a fresh clone, and the working directory of the test."""
    folder = new_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    isolate(monkeypatch)
    return folder


def new_project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
        shutil.copy(REPOSITORY / name, folder / name)
    for name in ("components", "flows", "infra"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    shutil.copy(REPOSITORY / "data" / ".gitignore", folder / "data" / ".gitignore")
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    return folder


def isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers, databases and homes of the developer don't reach into a test."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "DARKROOM_HOME", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)


def draw_shape(label: str, number: int, side: int = 32) -> Image.Image:
    """A bright shape on a noisy ground: simple to learn, no two alike."""
    random = np.random.default_rng([sum(label.encode()), number])
    pixels = random.integers(0, 90, (side, side, 3), dtype=np.uint8)
    size = int(random.integers(side // 3, side // 2))
    top, left = (int(random.integers(1, side - size - 1)) for _ in range(2))
    colour = random.integers(150, 256, 3, dtype=np.uint8)
    rows, columns = np.mgrid[0:size, 0:size]
    shape = {
        "square": np.ones((size, size), bool),
        "circle": (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 2) ** 2,
        "stripes": rows % 4 < 2,
    }[label]
    pixels[top : top + size, left : left + size][shape] = colour
    return Image.fromarray(pixels)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Three classes of forty drawn shapes, a folder a class."""
    return write_shapes(tmp_path / "shapes")


def write_shapes(folder: Path, *, each: int = 40, labels: tuple[str, ...] = ("circle", "square", "stripes")) -> Path:
    for label in labels:
        (folder / label).mkdir(parents=True)
        for number in range(each):
            draw_shape(label, number).save(folder / label / f"{number:03d}.png")
    return folder


@pytest.fixture
def darkroom(project_folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the console command in the project, as a person would."""

    def call(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
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
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/health", server, home / "server.log")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
