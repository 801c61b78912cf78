"""The commands that run the steps of the pipeline."""

from typing import TYPE_CHECKING, Annotated

import typer

from components.presets.preset import Preset
from flows.cli import results
from flows.cli.options import AsJson, Data, Overrides, Values
from flows.cli.results import finish
from flows.cli.running import run_pipeline

if TYPE_CHECKING:
    pass


commands = typer.Typer()


@commands.command()
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


@commands.command()
def train(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Train a model; data is brought up to date first."""
    found = run_pipeline("train", overrides=overrides, values=values)
    from flows.steps.train import Trained

    finish({"run_id": found[Trained].run_id}, as_json)


@commands.command()
def finetune(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Fine-tune the trained model."""
    found = run_pipeline("finetune", overrides=overrides, values=values)
    from flows.steps.train import Trained

    finish({"run_id": found[Trained].run_id}, as_json)


@commands.command()
def evaluate(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Score the model on the test split."""
    found = run_pipeline("evaluate", overrides=overrides, values=values)
    from flows.steps.evaluate import Evaluated

    scores = found[Evaluated].scores
    finish(scores, as_json, results.scores)


@commands.command()
def quantize(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Export to ONNX and int8, measure both, choose the file to serve."""
    found = run_pipeline("quantize", overrides=overrides, values=values)
    from flows.steps.quantize import Exported

    record = found[Exported].record
    finish(record, as_json, lambda record: f"would serve {record.served}: {'; '.join(record.reasons)}")


@commands.command()
def register(overrides: Overrides = None, values: Values = None, as_json: AsJson = False) -> None:
    """Register the file to serve as a new version."""
    found = run_pipeline("register", overrides=overrides, values=values)
    from flows.steps.register import Registered

    finish({"version": found[Registered].version}, as_json)
