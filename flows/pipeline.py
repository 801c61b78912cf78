"""The whole life of a model: from the images at hand to a judged, registered version."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.project.dvc import restore_data_on_failure
from flows.project.project import open_project
from flows.session.preflight import restore_params_on_error
from flows.session.session import Prepared, StepTime, open_session
from flows.steps.evaluate import Evaluated, evaluate_model
from flows.steps.finetune import finetune_model
from flows.steps.ingest import Ingested, ingest_data
from flows.steps.prepare import prepare_data
from flows.steps.promote import Promoted, check_levels, promote_version
from flows.steps.quantize import Exported, quantize_model
from flows.steps.register import register_model
from flows.steps.remote_training import require_deployment, train_on
from flows.steps.train import train_model


@flow(name="pipeline")
def pipeline(
    data: str | None = None,
    overrides: list[str] | None = None,
    project: str | None = None,
    training_deployment: str | None = None,
) -> dict[str, Any]:
    """`training_deployment` names the deployment that trains, such as train/gpu; without it training happens here."""
    opened = open_project(Path(project) if project else None)
    with restore_data_on_failure(opened):
        with restore_params_on_error(opened):
            session = open_session(project, overrides, exports=True)
            if training_deployment is not None:
                require_deployment(training_deployment)
            ingested = ingest_data(session.project, data)
            check_levels(session)
        prepared = prepare_data(session.project)
    if training_deployment is not None:
        train_on(training_deployment, session, prepared)
    trained = train_model(session, prepared)
    tuned = finetune_model(session, prepared, trained)
    evaluated = evaluate_model(session, prepared, tuned)
    exported = quantize_model(session, prepared, evaluated.trained)
    registered = register_model(session, prepared, exported)
    promoted = promote_version(session, prepared, registered.version)
    times = [
        ingested.time,
        *prepared.times,
        trained.time,
        tuned.time,
        evaluated.time,
        exported.time,
        registered.time,
        promoted.time,
    ]
    return _summary(ingested, prepared, evaluated, exported, promoted, times)


def _summary(
    ingested: Ingested,
    prepared: Prepared,
    evaluated: Evaluated,
    exported: Exported,
    promoted: Promoted,
    times: list[StepTime],
) -> dict[str, Any]:
    formats, served = exported.record["formats"], exported.record["served"]
    return {
        "data_version": ingested.data_version,
        "split_digest": prepared.split_digest,
        "run_id": exported.run_id,
        "version": promoted.version,
        "promoted": promoted.promoted,
        "status": promoted.status,
        "reasons": promoted.reasons,
        "metrics": {
            "torch": _two(evaluated.scores),
            **{f"onnx_{name}": _two(one["test"]) for name, one in formats.items()},
        },
        "served": served,
        "bytes": formats[served]["bytes"],
        "latency_ms": formats[served]["latency"]["p50_ms"],
        "latency_p95_ms": formats[served]["latency"]["p95_ms"],
        "steps": [vars(time) for time in times],
    }


def _two(scores: dict[str, Any]) -> dict[str, float]:
    return {"accuracy": scores["accuracy"], "macro_f1": scores["macro_f1"]}
