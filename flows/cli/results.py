"""The result of a command on standard output."""

import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from components.reporting.latency_text import latency_text
from components.shared.plural import counted

if TYPE_CHECKING:
    from components.records.scores import ScoresRecord
    from flows.steps.promote import Promoted
    from flows.steps.step import Results


def finish(result: Any, as_json: bool, describe: Callable[[Any], str] | None = None) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=_as_dict), flush=True)
        return
    text = describe(result) if describe else ", ".join(f"{name} {value}" for name, value in result.items())
    if text:
        print(text, flush=True)


def _as_dict(result: Any) -> dict[str, Any]:
    """A result that JSON doesn't know: a dataclass, or a record (whose class takes long to import)."""
    record: dict[str, Any] = (
        asdict(result) if is_dataclass(result) and not isinstance(result, type) else result.as_dict()
    )
    return record


def summary(found: "Results") -> dict[str, Any]:
    """What `darkroom run` reports: the data, the version and the decision on it, scores by file, times by step."""
    from flows.session.session import Prepared
    from flows.steps.evaluate import Evaluated
    from flows.steps.promote import Promoted
    from flows.steps.quantize import Exported

    exported, promoted, prepared = found[Exported], found[Promoted], found[Prepared]
    record, served = exported.record, exported.record.served_file.measured
    return {
        "data_version": prepared.data_version,
        "split_digest": prepared.split_digest,
        "run_id": exported.run_id,
        **decision(promoted),
        "metrics": {
            "torch": _headline(found[Evaluated].scores.values),
            **{f"onnx_{name}": _headline(one.test.values) for name, one in record.formats.items()},
        },
        "served": record.served,
        "bytes": served.size_bytes,
        "latency_ms": served.latency.p50_ms,
        "latency_p95_ms": served.latency.p95_ms,
        "steps": [vars(time) for time in found.times],
    }


def decision(promoted: "Promoted") -> dict[str, Any]:
    """What the gate decided on a version, and why."""
    return {name: getattr(promoted, name) for name in ("version", "promoted", "status", "reasons")}


def _headline(scores: dict[str, Any]) -> dict[str, float]:
    return {"accuracy": scores["accuracy"], "macro_f1": scores["macro_f1"]}


def scores(record: "ScoresRecord") -> str:
    return f"accuracy {record.values['accuracy']:.4f}, macro F1 {record.values['macro_f1']:.4f}"


def pipeline(result: dict[str, Any]) -> str:
    reused = all(step["state"] == "reused" for step in result["steps"])
    head = "nothing has changed, every step was reused\n" if reused else ""
    scores = result["metrics"][f"onnx_{result['served']}"]
    took = latency_text(result["latency_ms"], result["latency_p95_ms"])
    return (
        f"{head}version {result['version']} ({result['served']}, {result['bytes']:,} bytes, {took} an image): "
        f"accuracy {scores['accuracy']:.4f}, macro F1 {scores['macro_f1']:.4f}\n"
        f"{verdict(result)}\n"
        "see it: darkroom report, darkroom ui, darkroom models"
    )


def prediction(result: dict[str, Any]) -> str:
    bad = f", {result['unreadable']} of them unreadable (see the error column)" if result["unreadable"] else ""
    return f"{counted(result['images'], 'image')}{bad} classified by {result['model']} into {result['out']}"


def search(result: dict[str, Any]) -> str:
    from flows.experiments.tune import show_trials

    show_trials(result)
    best, hint = result["best"], "" if result["applied"] else "; --apply writes its values into params.yaml"
    return f"best: trial {best['number']}, {result['metric']} {best['score']:.4f} on validation{hint}"


def comparison(result: dict[str, Any]) -> str:
    from flows.experiments.compare import show_comparison

    return show_comparison(result)


def serves_again(champion: str | None) -> str:
    return f"version {champion} serves again" if champion else "no version serves"


def verdict(result: dict[str, Any]) -> str:
    verdict = "awaiting approval" if result["status"] == "awaiting approval" else "not promoted"
    verdict = "promoted to @champion" if result["promoted"] else verdict
    refused = result["status"] == "refused"
    hint = "\nthe limits are in params.yaml under promote; after a change type `darkroom promote` again"
    return f"version {result['version']} {verdict}: {'; '.join(result['reasons'])}{hint if refused else ''}"


def lineage(result: dict[str, Any]) -> str:
    return "no link is broken" if result["whole"] else "the lineage is broken; see above"


def reproduction(result: dict[str, Any]) -> str:
    return f"version {result['version']}, trained again: {result['outcome']}"
