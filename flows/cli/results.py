"""The result of a command on standard output."""

import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from components.reporting.latency_text import latency_text
from components.shared.plural import counted

if TYPE_CHECKING:
    from components.records.scores import ScoresRecord
    from flows.experiments.compare import ComparisonResult
    from flows.experiments.cross_validate import CrossValidated
    from flows.experiments.tune import SearchResult
    from flows.pipeline import RunSummary
    from flows.project.baseline import Baseline
    from flows.registry.reproduce import Reproduction
    from flows.registry.verify_lineage import Trace
    from flows.serving.predict import PredictedTable
    from flows.steps.promote import GateOutcome

Result = TypeVar("Result")


def finish(result: Result, as_json: bool, describe: Callable[[Result], str] | None = None) -> None:
    """Prints a dataclass, record or dictionary as JSON, or the sentence that describes it."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=_as_dict), flush=True)
        return
    text = describe(result) if describe else _listed(result)
    if text:
        print(text, flush=True)


def _as_dict(result: Any) -> Any:
    """What JSON doesn't know as plain values: a dataclass, or a record (whose class takes long to import)."""
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result.as_dict()


def _listed(result: Any) -> str:
    values = result if isinstance(result, dict) else _as_dict(result)
    return ", ".join(f"{name} {value}" for name, value in values.items())


def scores(record: "ScoresRecord") -> str:
    return f"accuracy {record.values['accuracy']:.4f}, macro F1 {record.values['macro_f1']:.4f}"


def pipeline(run: "RunSummary") -> str:
    head = "nothing has changed, every step was reused\n" if run.all_reused else ""
    scores = run.metrics[f"onnx_{run.served}"]
    took = latency_text(run.latency_ms, run.latency_p95_ms)
    return (
        f"{head}version {run.version} ({run.served}, {run.bytes:,} bytes, {took} an image): "
        f"accuracy {scores.accuracy:.4f}, macro F1 {scores.macro_f1:.4f}\n"
        f"{verdict(run)}\n"
        "see it: darkroom report, darkroom ui, darkroom models\n"
        f"MLflow's pages{'' if run.pages.served else ', while `darkroom ui` runs'}:\n"
        f"  experiment  {run.pages.experiment}\n"
        f"  run         {run.pages.run}\n"
        f"  version     {run.pages.version}"
    )


def prediction(table: "PredictedTable") -> str:
    bad = f", {table.unreadable} of them unreadable (see the error column)" if table.unreadable else ""
    if table.out is None:
        # The predictions themselves are all that standard output holds.
        return ""
    return f"{counted(table.images, 'image')}{bad} classified by {table.model} into {table.out}"


def prepared(result: dict[str, str]) -> str:
    return (
        f"the data is split and packed (split digest {result['split_digest']})\n"
        "next: `darkroom run` trains and decides, `darkroom train` trains alone; `darkroom set-baseline` makes this "
        "data the one that later data is compared with"
    )


def baseline(result: "Baseline") -> str:
    return (
        f"{counted(result.baseline_images, 'image')} are the baseline\n"
        "next: `darkroom ingest --data SOURCE` brings in other data, and `darkroom prepare` or `darkroom run` says how "
        "far it has drifted, and decides on that by validate.drift and validate.class_drift of params.yaml"
    )


def search(result: "SearchResult") -> str:
    from flows.experiments.tune import show_trials

    show_trials(result)
    hint = "" if result.applied else "; --apply writes its values into params.yaml"
    return f"best: trial {result.best.number}, {result.metric} {result.best.score:.4f} on validation{hint}"


def comparison(result: "ComparisonResult") -> str:
    from flows.experiments.compare import show_comparison

    return show_comparison(result)


def folds(result: "CrossValidated") -> str:
    from flows.experiments.cross_validate import show_folds

    return show_folds(result)


def serves_again(champion: str | None) -> str:
    return f"version {champion} serves again" if champion else "no version serves"


def verdict(outcome: "GateOutcome") -> str:
    verdict = "awaiting approval" if outcome.status == "awaiting approval" else "not promoted"
    verdict = "promoted to @champion" if outcome.promoted else verdict
    refused = outcome.status == "refused"
    hint = "\nthe limits are in params.yaml under promote; after a change type `darkroom promote` again"
    return f"version {outcome.version} {verdict}: {'; '.join(outcome.reasons)}{hint if refused else ''}"


def lineage(trace: "Trace") -> str:
    if trace.whole:
        return "no link is broken"
    broken = any(link.state == "broken" for link in trace.links)
    return f"{'the lineage is broken' if broken else 'something that the lineage leads to is missing'}; see above"


def reproduction(result: "Reproduction") -> str:
    return f"version {result.version}, trained again: {result.outcome}"
