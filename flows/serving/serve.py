"""Serve a registered version with MLflow's scoring server and an upload page at the same address."""

import contextlib
import logging
import os
import socket

from components.serving.providers import PROVIDER_VARIABLE
from components.shared.errors import ServiceError
from flows.serving.predict import open_version, version_name
from flows.tracking.scoring_server import application, describe

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
        version, file = open_version(model)
        description = describe(version_name(version), version.aliases, file, provider=provider)
        # The package that MLflow loads reads the provider from there.
        os.environ[PROVIDER_VARIABLE] = provider or ""
        app = application(version_name(version), description)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False))
        name = f"[{host}]" if ":" in host else host
        logger.info(f"{version_name(version)} is served at http://{name}:{listener.getsockname()[1]} (Ctrl-C stops it)")
        # After the last responses the server raises the Ctrl-C again.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        logger.info(f"stopped serving {version_name(version)}")
