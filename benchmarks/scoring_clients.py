"""MLflow's scoring server as a separate process, and clients that send it requests."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from components.data.images.preprocessing import PreprocessSettings, square_of
from components.serving.onnx_classifier import INPUT

_START_SECONDS = 120


@contextlib.contextmanager
def served(model_file: Path, scratch: Path) -> Iterator[str]:
    """The address of `mlflow models serve` with the package of the ONNX file, as the registry holds it."""
    from flows.tracking.packaging import write_package

    write_package(model_file, scratch / "package")
    with serving(scratch / "package", scratch) as address:
        yield address


@contextlib.contextmanager
def serving(package: Path, scratch: Path) -> Iterator[str]:
    """The address of `mlflow models serve` with any saved model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(package), "--env-manager", "local"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (scratch / f"{package.name}.log").open("w") as log:
        server = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def onnx_package(file: Path, scratch: Path, side: int) -> Path:
    """The file in MLflow's own onnx flavor, which takes the pixels of decoded images."""
    import mlflow
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, side, side, 3), INPUT)])
    mlflow.onnx.save_model(
        onnx.load(file), scratch / "flavor", signature=ModelSignature(inputs=inputs), save_as_external_data=False
    )
    return scratch / "flavor"


def as_numbers(contents: list[bytes], preprocess: PreprocessSettings) -> bytes:
    """A request of that flavor: the decoded squares, number by number."""
    squares = [square_of(content, preprocess).tolist() for content in contents]
    return json.dumps({"inputs": {INPUT: squares}}).encode()


def asked(address: str, body: bytes) -> Any:
    """The predictions of one request."""
    request = Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urlopen(request) as answer:
        return json.loads(answer.read())["predictions"]


class Client:
    """Sends requests over one connection."""

    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self._connection = http.client.HTTPConnection(str(url.hostname), url.port)

    def asked(self, body: bytes) -> Any:
        """The predictions of one request; a connection that the server closed is opened again."""
        try:
            return self._asked(body)
        except (ConnectionError, http.client.HTTPException):
            self._connection.close()
            return self._asked(body)

    def _asked(self, body: bytes) -> Any:
        self._connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)["predictions"]


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            urlopen(f"{address}/ping").close()
            return
        time.sleep(0.2)
    raise SystemExit("the scoring server doesn't start")
