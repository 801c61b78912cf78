"""Serve a registered version with MLflow's scoring server and an upload page at the same address."""

import contextlib
import logging
import socket
from typing import TYPE_CHECKING

from components.serving.onnx_classifier import OnnxClassifier
from components.shared.errors import ServiceError
from flows.serving.predict import open_version, version_name
from flows.tracking.scoring_server import application, describe

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)


def serve_model(model: str | None, *, host: str, port: int, provider: str | None = None) -> None:
    """Serves until interrupted; raises ServiceError if the port or the provider can't be used."""
    import uvicorn

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as problem:
            raise ServiceError(
                f"{host}:{port} can't be used ({getattr(problem, 'strerror', None) or problem}); "
                "choose another with --host and --port; port 0 means any free port"
            ) from None
        served, app = open_application(model, provider=provider)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
        name = f"[{host}]" if ":" in host else host
        logger.info(f"{served} is served at http://{name}:{listener.getsockname()[1]} (Ctrl-C stops it)")
        # After the last responses the server raises the Ctrl-C again.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        logger.info(f"stopped serving {served}")


def open_application(model: str | None, *, provider: str | None = None) -> "tuple[str, FastAPI]":
    """The version's name, and the application that serves it."""
    version, file = open_version(model)
    classifier = OnnxClassifier(file, expected_sha256=version.sha256, provider=provider)
    name = version_name(version)
    return name, application(classifier, describe(name, version.aliases, classifier))
