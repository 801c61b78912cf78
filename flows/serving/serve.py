"""Serve a registered version: MLflow's scoring server, and a page at the same address."""

import contextlib
import logging
import os
import socket

from components.serving.providers import PROVIDER_VARIABLE
from components.shared.errors import ServiceError
from flows.serving.predict import open_version, version_name
from flows.tracking.scoring_server import application, served_of

logger = logging.getLogger(__name__)


def serve_model(model: str | None, *, host: str, port: int, provider: str | None = None) -> None:
    """Answers until it is interrupted; raises ServiceError where the port or the provider can't be used."""
    import uvicorn

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as problem:
            raise ServiceError(
                f"{host}:{port} can't be used ({getattr(problem, 'strerror', None) or problem}); "
                "choose another with --host and --port, port 0 takes any free one"
            ) from None
        version, file = open_version(model)
        served = served_of(version_name(version), version.aliases, file, provider=provider)
        # Where the package that MLflow loads looks for it.
        os.environ[PROVIDER_VARIABLE] = provider or ""
        app = application(version_name(version), served)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
        name = f"[{host}]" if ":" in host else host
        logger.info(f"{version_name(version)} answers at http://{name}:{listener.getsockname()[1]} (Ctrl-C stops it)")
        # When it has answered what it was asked, it raises the Ctrl-C again.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        logger.info(f"stopped: {version_name(version)} isn't served any more")
