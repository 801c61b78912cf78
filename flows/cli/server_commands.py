"""The commands that run until they are stopped, and what goes with them."""

from typing import Annotated

import typer

from flows.cli.running import guarded
from flows.project.model_names import FORMS
from flows.tracking.connection import UI_PORT

commands = typer.Typer()

Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        envvar="DARKROOM_PROVIDER",
        help="What computes: cpu, cuda, tensorrt or openvino. Default: what the model was measured on, else cpu.",
    ),
]


@commands.command()
def serve(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help=f"{FORMS}; default: the champion."),
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in: the server asks nobody who they are.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 8080,
    provider: Provider = None,
) -> None:
    """Serve the champion: MLflow's scoring server, and a page to drop images on. Ctrl-C stops it."""

    def work() -> None:
        from flows.serving.serve import serve_model

        serve_model(model, host=host, port=port, provider=provider)

    guarded(work, stopped=None)


@commands.command()
def ui(
    prefect_port: Annotated[int, typer.Option(help="0 takes any free port.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="0 takes any free port.")] = UI_PORT,
) -> None:
    """Start the Prefect and MLflow pages on loopback; Ctrl-C stops them."""

    def work() -> None:
        from flows.servers.processes import serve

        serve(pools=(), prefect_port=prefect_port, mlflow_port=mlflow_port)

    guarded(work, stopped=None)


@commands.command()
def up(
    prefect_port: Annotated[int, typer.Option(help="0 takes any free port.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="0 takes any free port.")] = UI_PORT,
) -> None:
    """Start both servers and a worker for each pool; Ctrl-C stops them all."""

    def work() -> None:
        from flows.servers.processes import POOLS, serve

        serve(pools=POOLS, prefect_port=prefect_port, mlflow_port=mlflow_port)

    guarded(work, stopped=None)


@commands.command()
def deploy() -> None:
    """Register the deployments of infra/prefect.yaml with the Prefect server."""

    def work() -> None:
        from flows.servers.deployments import deploy_all

        deploy_all()

    guarded(work, stopped=None)


@commands.command()
def worker(pool: Annotated[str, typer.Option("--pool", help="cpu or gpu")]) -> None:
    """Join a work pool from this machine; Ctrl-C leaves it."""

    def work() -> None:
        from flows.servers.deployments import run_worker

        run_worker(pool)

    guarded(work, stopped=None)
