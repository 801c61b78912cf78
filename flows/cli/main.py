"""The front door. Nothing heavy is imported until a command needs it, so that --help answers at once."""

import contextlib
import platform
from pathlib import Path
from typing import Annotated

import typer

from components.shared.errors import SettingsError
from flows.cli import (
    answer_commands,
    experiment_commands,
    pipeline_commands,
    project_commands,
    registry_commands,
    server_commands,
)
from flows.console.logs import start_logging
from flows.project.machine import release
from flows.project.project import open_project
from flows.project.proxies import bypass_proxies

app = typer.Typer(
    name="darkroom",
    help="From a folder of images to a gated champion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done (also when the gate said no), 1 could not finish, 2 parameters or usage, 3 data, "
    "130 stopped by Ctrl-C (`serve`, `ui` and `up` exit with 0 then).",
)


def _show_version(asked: bool) -> None:
    """From the packages' metadata: importing torch takes seconds."""
    if asked:
        torch = release("torch")
        print(f"darkroom {release('darkroom')}, Python {platform.python_version()}, torch {torch}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and results only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show details, and who logs them.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show what is installed.")
    ] = False,
) -> None:
    del show_version  # its callback has answered
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose exclude each other")
    bypass_proxies()
    start_logging(
        level="WARNING" if quiet else "DEBUG" if verbose else None,
        folder=_log_folder(),
        name=context.invoked_subcommand or "darkroom",
    )


def _log_folder() -> Path | None:
    """None outside of a project: the command itself reports that, if it needs one."""
    with contextlib.suppress(SettingsError):
        return open_project().logs / "commands"
    return None


for group in (
    project_commands,
    pipeline_commands,
    experiment_commands,
    registry_commands,
    answer_commands,
    server_commands,
):
    app.add_typer(group.commands)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
