"""The front door. Nothing heavy is imported until a command needs it, so that --help answers at once."""

import contextlib
import os
import platform
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from components.presets.preset import Preset
from components.shared.errors import DataError, SettingsError
from flows.cli import results
from flows.cli.results import finish
from flows.cli.running import guarded, run_flow, run_pipeline
from flows.cli.servers import Provider, servers
from flows.console.logs import start_logging
from flows.project.machine import release
from flows.project.model_names import FORMS, is_version
from flows.project.project import open_project
from flows.project.proxies import bypass_proxies

if TYPE_CHECKING:
    from components.models.scenarios import Advice
    from flows.cli.architectures import ArchitectureTable
    from flows.cli.check import ProjectCheck
    from flows.experiments.features import FeaturesFile
    from flows.project.baseline import Baseline
    from flows.project.new_project import NewProject
    from flows.project.resolved_settings import ResolvedSettings
    from flows.registry.decision import Answered
    from flows.registry.reproduce import Reproduction
    from flows.registry.verify_lineage import Trace
    from flows.registry.versions import ModelList
    from flows.serving.predict import PredictedTable

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


Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change params.yaml first, as `dvc exp run -S` does."),
]
Values = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="SECTION.KEY=VALUE", help="For this run alone; params.yaml stays as it is."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Last line of standard output: the result as one JSON object.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Let --out replace a file that Darkroom didn't write; never one it reads.")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="Folder a class; table (.csv, .parquet, .jsonl); zip archive; tar shards; s3://, gs:// or az:// address; "
        "torchvision:NAME; `digits`. Default: the current data.",
    ),
]


@app.command()
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


@app.command(name="settings")
def show_settings(
    freeze: Annotated[bool, typer.Option("--freeze", help="Write the values into params.yaml.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each setting that is `auto` became for the current data, and why."""

    def work() -> "ResolvedSettings":
        from flows.project.resolved_settings import resolved_settings

        return resolved_settings(open_project(), freeze=freeze)

    finish(guarded(work), as_json, lambda found: found.show())


@app.command()
def run(
    data: Data = None,
    preset: Annotated[
        Preset | None, typer.Option("--preset", help="For settings that are auto; the same as --set auto.preset=….")
    ] = None,
    overrides: Overrides = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """Run all steps: ingest, prepare, train, finetune, evaluate, quantize, register, promote."""
    if preset is not None:
        overrides = [*(overrides or []), f"auto.preset={preset}"]
    found = run_pipeline("promote", data=data, overrides=overrides, values=values, ingest=True)
    from flows.pipeline import summarize

    finish(summarize(found), as_json, results.pipeline)


@app.command()
def ingest(data: Data = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Import images as a new version of data/raw."""
    found = run_pipeline("ingest", data=data, overrides=overrides, ingest=True)
    from flows.steps.ingest import Ingested

    finish({"data_version": found[Ingested].data_version}, as_json)


@app.command()
def prepare(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Validate, split and augment the current data (`dvc repro`)."""
    found = run_pipeline("prepare", overrides=overrides)
    from flows.session.session import Prepared

    finish({"split_digest": found[Prepared].split_digest}, as_json, results.prepared)


@app.command("set-baseline")
def set_baseline(as_json: AsJson = False) -> None:
    """Make the current data the baseline that drift is measured against."""

    def work() -> "Baseline":
        from flows.project.baseline import set_baseline as store_baseline

        return store_baseline(open_project())

    finish(guarded(work), as_json, results.baseline)


@app.command()
def train(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Train a model; data is brought up to date first."""
    found = run_pipeline("train", overrides=overrides, values=values)
    from flows.steps.train import Trained

    finish({"run_id": found[Trained].run_id}, as_json)


@app.command()
def finetune(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Fine-tune the trained model."""
    found = run_pipeline("finetune", overrides=overrides, values=values)
    from flows.steps.train import Trained

    finish({"run_id": found[Trained].run_id}, as_json)


Deployment = Annotated[
    str | None,
    typer.Option(
        "--deployment",
        metavar="NAME",
        help="Its workers train, such as train/gpu, and this machine does the rest; default: this machine does all.",
    ),
]


@app.command()
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


@app.command()
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


@app.command("cross-validate")
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


@app.command()
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


@app.command()
def evaluate(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Score the model on the test split."""
    found = run_pipeline("evaluate", overrides=overrides, values=values)
    from flows.steps.evaluate import Evaluated

    scores = found[Evaluated].scores
    finish(scores, as_json, results.scores)


@app.command()
def quantize(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Export to ONNX and int8, measure both, choose the file to serve."""
    found = run_pipeline("quantize", overrides=overrides, values=values)
    from flows.steps.quantize import Exported

    record = found[Exported].record
    finish(record, as_json, lambda record: f"would serve {record.served}: {'; '.join(record.reasons)}")


@app.command()
def register(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Register the file to serve as a new version."""
    found = run_pipeline("register", overrides=overrides, values=values)
    from flows.steps.register import Registered

    finish({"version": found[Registered].version}, as_json)


@app.command()
def promote(
    version: Annotated[str | None, typer.Option("--version", help=f"{FORMS}; default: the newest.")] = None,
    overrides: Overrides = None,
    values: Values = None,
    as_json: AsJson = False,
) -> None:
    """Have the gate decide on a registered version."""
    outcome = run_flow(
        "flows.pipeline.promote",
        command="promote",
        check=[version] if version else [],
        version=version,
        overrides=overrides,
        values=values,
    )
    finish(outcome, as_json, results.verdict)


@app.command()
def rollback(
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the ledger.")] = None, as_json: AsJson = False
) -> None:
    """Make the previous champion serve again."""
    result = run_flow("flows.registry.rollback.rollback", command="rollback", stages=False, reason=reason)
    finish(
        result,
        as_json,
        lambda result: f"{results.serves_again(result.champion)}, version {result.was} doesn't serve any more",
    )


Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the model in the registry.")]
Number = Annotated[str, typer.Argument(metavar="VERSION", help="VERSION, ALIAS or NAME@ALIAS.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides, for the ledger; default: this user.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the ledger.")]


@app.command()
def approve(name: Name, version: Number, reason: Reason, by: By = None, as_json: AsJson = False) -> None:
    """Promote a version that passed the gate and waits for a person."""
    _answer(name, version, "promoted", by, reason, as_json)


@app.command()
def refuse(name: Name, version: Number, reason: Reason, by: By = None, as_json: AsJson = False) -> None:
    """Turn down a version that passed the gate and waits for a person."""
    _answer(name, version, "refused", by, reason, as_json)


@app.command()
def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Images, folders, 'patterns/**/*.jpg', tables with a column path (.csv, .parquet, .jsonl), archives "
            "(.zip, .tar, .tar.gz), s3://, gs:// or az:// addresses; - reads such names from standard input.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="FILE.csv, FILE.parquet or FILE.jsonl. Without it a table on a terminal, JSON lines in a pipe.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help=f"An .onnx file, {FORMS}; default: the champion.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", help="Name so many of the most probable classes.")] = 0,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Give that of every class.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Threads; default: one a core.")] = None,
    provider: Provider = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Classify images with the champion.

    With --out the same command resumes an interrupted run. Exit code 3: some of the images can't be read, and have the
    reason in the column error. What each column means: docs/serving.md, "Columns and fields".
    """

    def work() -> "PredictedTable":
        from components.serving.prediction_records import PredictionOptions
        from flows.serving.predict import predict_files, print_predictions

        options = PredictionOptions(top_k=top_k, probabilities=probabilities)
        if out is None:
            return print_predictions(sources, model=model, options=options, workers=workers, provider=provider)
        return predict_files(
            sources,
            out=out,
            model=model,
            options=options,
            workers=workers,
            provider=provider,
            overwrite=overwrite,
        )

    resumes = "the same command resumes it" if out is not None else "with --out FILE.csv it could resume"
    result = guarded(work, stopped=f"predict was stopped; {resumes}")
    finish(result, as_json, results.prediction)
    sys.exit(DataError.exit_code if result.unreadable else 0)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the registered versions, their aliases and verdicts."""

    def work() -> "ModelList":
        from flows.registry.versions import list_models

        return list_models(show=not as_json)

    finish(guarded(work), as_json, lambda result: "")


@app.command()
def lineage(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=f"{FORMS}; default: the champion.")] = None,
    as_json: AsJson = False,
) -> None:
    """Trace a version from pixel to served file, and verify each link that can be verified."""

    def work() -> "Trace":
        from flows.registry.verify_lineage import trace

        return trace(model, show=not as_json)

    result = guarded(work)
    finish(result, as_json, results.lineage)
    sys.exit(0 if result.whole else 1)


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(metavar="VERSION", help=f"{FORMS}.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the model; default: register.name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a registered version again from its own data and code, and show what differs."""

    def work() -> "Reproduction":
        from flows.registry.reproduce import reproduce_version

        return reproduce_version(version, name=name, show=not as_json)

    stopped = "reproduce was stopped; the registry and the project are as they were"
    finish(guarded(work, stopped=stopped), as_json, results.reproduction)


@app.command()
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


@app.command()
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


@app.command()
def report(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=f"{FORMS}; default: the newest evaluated model.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page on a model."""

    def work() -> dict[str, str]:
        from flows.report.page import write_report

        return {"report": str(write_report(out, model, overwrite=overwrite))}

    finish(guarded(work), as_json, lambda result: f"wrote {result['report']}")


@app.command()
def check(as_json: AsJson = False) -> None:
    """Check whether this project can run: parameters, tools, servers, data."""

    def work() -> "ProjectCheck":
        from flows.cli.check import check_project

        return check_project(show=not as_json)

    result = guarded(work)
    finish(result, as_json, lambda found: found.summary)
    sys.exit(0 if result.fit else 2)


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def stage(arguments: typer.Context, name: str) -> None:
    """Run one data stage with the paths that dvc.yaml gives it; `dvc repro` calls this."""
    from flows.project.project import STAGES

    if name not in ("code", *STAGES):
        raise typer.BadParameter(f"there is no stage {name}; choose code, {', '.join(STAGES)}")
    import_module(f"flows.stages.{name}").main(arguments.args)


app.add_typer(servers)


def main() -> None:
    app()


def _answer(
    name: str, version: str, action: Literal["promoted", "refused"], by: str | None, reason: str, as_json: bool
) -> None:
    def work() -> "Answered":
        from flows.registry.decision import answer

        return answer(name, version, action=action, by=by, reason=reason)

    finish(guarded(work), as_json, lambda answered: f"version {answered.version} {answered.status}")


if __name__ == "__main__":
    main()
