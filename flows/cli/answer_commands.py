"""The commands that answer: predictions and reports."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.shared.errors import DataError
from flows.cli import results
from flows.cli.options import AsJson, Overwrite
from flows.cli.results import finish
from flows.cli.running import guarded
from flows.cli.server_commands import Provider
from flows.project.model_names import FORMS

if TYPE_CHECKING:
    from flows.serving.predict import PredictedTable


commands = typer.Typer()


@commands.command()
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


@commands.command()
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
