"""The commands that compare models and settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import results
from flows.cli.options import AsJson, Overrides, Overwrite, Values
from flows.cli.results import finish
from flows.cli.running import guarded, run_flow
from flows.project.model_names import FORMS, is_version
from flows.project.project import open_project

if TYPE_CHECKING:
    from components.models.scenarios import Advice
    from flows.cli.architectures import ArchitectureTable
    from flows.experiments.features import FeaturesFile


commands = typer.Typer()


Deployment = Annotated[
    str | None,
    typer.Option(
        "--deployment",
        metavar="NAME",
        help="Its workers train, such as train/gpu, and this machine does the rest; default: this machine does all.",
    ),
]


@commands.command()
def tune(
    overrides: Overrides = None,
    values: Values = None,
    deployment: Deployment = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best values into params.yaml.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search the settings of `tune.space` for the best validation score."""
    result = run_flow(
        "flows.experiments.tune.tune",
        command="tune",
        trains=True,
        stopped="the same command resumes: finished trials count, and a training continues from its last checkpoint",
        overrides=overrides,
        values=values,
        deployment=deployment,
        apply=apply,
    )
    finish(result, as_json, results.search)


@commands.command()
def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME…", help="Architectures, NAME@ALIAS or NAME/VERSION."),
    ],
    overrides: Overrides = None,
    values: Values = None,
    deployment: Deployment = None,
    out: Annotated[Path, typer.Option("--out", help="The picture to write: .png or .svg.")] = Path("comparison.png"),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train architectures alike and show accuracy, latency, size and training time beside each other."""
    result = run_flow(
        "flows.experiments.compare.compare",
        command="compare",
        check=names,
        trains=True,
        exports=True,
        names=names,
        overrides=overrides,
        values=values,
        deployment=deployment,
        out=str(out.absolute()),
        overwrite=overwrite,
    )
    finish(result, as_json, results.comparison)


@commands.command("cross-validate")
def cross_validate(
    overrides: Overrides = None,
    values: Values = None,
    out: Annotated[Path, typer.Option("--out", help="The table of out-of-fold predictions to write.")] = Path(
        "out_of_fold.parquet"
    ),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Train without each fold of `split.folds` in turn, and show how the models score on theirs: mean and spread."""

    def check() -> None:
        from flows.project.params import read_overridden
        from flows.session.preflight import check_folds

        check_folds(read_overridden(open_project().params, overrides or []))

    guarded(check)
    result = run_flow(
        "flows.experiments.cross_validate.cross_validate",
        command="cross-validate",
        trains=True,
        overrides=overrides,
        values=values,
        out=str(out.absolute()),
        overwrite=overwrite,
    )
    finish(result, as_json, results.folds)


@commands.command()
def ensemble(
    members: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_VERSION…",
            help=f"{FORMS}, a run's ID; or `snapshots`: those of the newest training.",
        ),
    ],
    overrides: Overrides = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """Make one model of several: exported, registered and decided on like any other."""
    decision = run_flow(
        "flows.experiments.ensemble.ensemble",
        command="ensemble",
        check=[member for member in members if is_version(member)],
        exports=True,
        members=members,
        overrides=overrides,
        values=values,
    )
    finish(decision, as_json, results.verdict)


@commands.command()
def architectures(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="Default: all.")] = None,
    image_size_px: Annotated[int, typer.Option("--size", help="Side of the images, in pixels.")] = 224,
    num_classes: Annotated[int, typer.Option("--classes")] = 1000,
    scenario: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="SCENARIO", help="Advise: mobile, edge, server, real_time, max_accuracy, transfer."
        ),
    ] = None,
    with_weights: Annotated[
        bool, typer.Option("--weights", help="With --for: pretrained weights are available.")
    ] = False,
    latency: Annotated[bool, typer.Option("--latency", help="Measure it here too; takes seconds for each.")] = False,
    compound: Annotated[
        float | None, typer.Option("--compound", help="Of efficientnet, as model.compound. Default: 0, which is B0.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List architectures with their parameters, computation, memory and latency."""

    def work() -> "ArchitectureTable | Advice":
        from flows.cli.architectures import advised, list_architectures

        if scenario is not None:
            return advised(scenario, image_size_px=image_size_px, with_weights=with_weights, show=not as_json)
        return list_architectures(
            names or [],
            image_size_px=image_size_px,
            num_classes=num_classes,
            latency=latency,
            show=not as_json,
            compound=compound,
        )

    finish(guarded(work), as_json, lambda result: "")


@commands.command()
def features(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An architecture, NAME@ALIAS or NAME/VERSION.")],
    weights: Annotated[
        str | None, typer.Option("--weights", help="Of an architecture: imagenet, or a .pth or .safetensors file.")
    ] = None,
    image_size_px: Annotated[
        int | None, typer.Option("--size", help="Side of the images, in pixels. Default: that of params.yaml.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("data/reference/features.onnx"),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a network without its last layer: for labels.features and split.duplicates.embeddings."""

    def work() -> "FeaturesFile":
        from flows.experiments.features import write_features

        return write_features(model, weights=weights, image_size_px=image_size_px, out=out, overwrite=overwrite)

    finish(guarded(work), as_json)
