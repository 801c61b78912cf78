"""The commands on a project and its data."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import results
from flows.cli.options import AsJson, Data, Overrides
from flows.cli.results import finish
from flows.cli.running import guarded, run_pipeline
from flows.project.project import open_project

if TYPE_CHECKING:
    from flows.cli.check import ProjectCheck
    from flows.project.baseline import Baseline
    from flows.project.new_project import NewProject
    from flows.project.resolved_settings import ResolvedSettings


commands = typer.Typer()


@commands.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The project's folder; it is made where it isn't there.")] = Path(),
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a project for your own images, in any folder."""

    def work() -> "NewProject":
        from components.data.sources import check_location
        from flows.project.new_project import init_project

        if data is not None:
            check_location(data)
        return init_project(folder)

    source = str(Path(data).resolve()) if data is not None and Path(data).exists() else data
    made = guarded(work)
    os.chdir(made.folder)
    if source is not None:
        run_pipeline("ingest", data=source, ingest=True)
    then = "darkroom run" if data is not None else "darkroom run --data FOLDER"
    finish(made, as_json, lambda project: f"{project.folder} is the project {project.name}; go there and run `{then}`")


@commands.command(name="settings")
def show_settings(
    freeze: Annotated[bool, typer.Option("--freeze", help="Write the values into params.yaml.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each setting that is `auto` became for the current data, and why."""

    def work() -> "ResolvedSettings":
        from flows.project.resolved_settings import resolved_settings

        return resolved_settings(open_project(), freeze=freeze)

    finish(guarded(work), as_json, lambda found: found.show())


@commands.command()
def check(as_json: AsJson = False) -> None:
    """Check whether this project can run: parameters, tools, servers, data."""

    def work() -> "ProjectCheck":
        from flows.cli.check import check_project

        return check_project(show=not as_json)

    result = guarded(work)
    finish(result, as_json, lambda found: found.summary)
    sys.exit(0 if result.fit else 2)


@commands.command()
def ingest(data: Data = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Import images as a new version of data/raw."""
    found = run_pipeline("ingest", data=data, overrides=overrides, ingest=True)
    from flows.steps.ingest import Ingested

    finish({"data_version": found[Ingested].data_version}, as_json)


@commands.command()
def prepare(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Validate, split and augment the current data (`dvc repro`)."""
    found = run_pipeline("prepare", overrides=overrides)
    from flows.session.session import Prepared

    finish({"split_digest": found[Prepared].split_digest}, as_json, results.prepared)


@commands.command("set-baseline")
def set_baseline(as_json: AsJson = False) -> None:
    """Make the current data the baseline that drift is measured against."""

    def work() -> "Baseline":
        from flows.project.baseline import set_baseline as store_baseline

        return store_baseline(open_project())

    finish(guarded(work), as_json, results.baseline)


@commands.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def stage(arguments: typer.Context, name: str) -> None:
    """Run one data stage with the paths that dvc.yaml gives it; `dvc repro` calls this."""
    from flows.project.project import STAGES

    if name not in ("code", *STAGES):
        raise typer.BadParameter(f"there is no stage {name}; choose code, {', '.join(STAGES)}")
    import_module(f"flows.stages.{name}").main(arguments.args)
