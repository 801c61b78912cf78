"""The end-to-end pipeline: from images to a registered version that the gate has decided on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from prefect import flow

from flows.project.dvc import restore_data_on_failure
from flows.project.model_names import require_same_model
from flows.project.project import open_project
from flows.project.repository import require_dvc
from flows.session.preflight import restore_params_on_error
from flows.session.session import Prepared, Session, StepTime, open_session
from flows.steps.evaluate import Evaluated
from flows.steps.ingest import Ingest
from flows.steps.order import STEPS, steps_until
from flows.steps.prepare import Prepare
from flows.steps.promote import GateOutcome, Promote, Promoted, check_levels, newest_version
from flows.steps.quantize import Exported
from flows.steps.remote_training import require_deployment, train_on
from flows.steps.step import Results, run_all, run_as_task
from flows.steps.train import Train
from flows.tracking.connection import Pages, pages


@dataclass(frozen=True)
class Headline:
    """The scores that a summary names."""

    accuracy: float
    macro_f1: float

    @classmethod
    def of(cls, scores: Mapping[str, float]) -> Self:
        return cls(scores["accuracy"], scores["macro_f1"])


@dataclass(frozen=True)
class RunSummary(GateOutcome):
    """What one run of all steps made: the data, the version and the decision on it, scores by file, times by step."""

    data_version: str
    split_digest: str
    run_id: str
    metrics: dict[str, Headline]
    """On the test split: of the torch model as `torch`, of each exported file as `onnx_` and its format."""
    served: str
    """Format of the registered file."""
    bytes: int
    latency_ms: float
    """Median for one image."""
    latency_p95_ms: float
    steps: list[StepTime]
    pages: Pages

    @property
    def all_reused(self) -> bool:
        """Whether no step had anything to do."""
        return all(step.state == "reused" for step in self.steps)


@flow(name="pipeline")
def pipeline(
    data: str | None = None,
    overrides: list[str] | None = None,
    project: str | None = None,
    training_deployment: str | None = None,
    until: str = STEPS[-1].name,
    ingest: bool = True,
    values: dict[str, Any] | None = None,
) -> Results:
    """Runs the steps in their order until the named one is done; returns what they produced.

    `data` is a source to ingest; without `ingest` the run starts from the current data version. `training_deployment`
    names the deployment whose workers train, such as train/gpu; None trains in this process' machine. `values`, such as
    {"train.epochs": 3}, hold for this run alone; params.yaml stays as it is.
    """
    steps, opened = steps_until(until), open_project(Path(project) if project else None)
    require_dvc(opened)
    results = Results()
    with restore_data_on_failure(opened):
        with restore_params_on_error(opened):
            session = open_session(project, overrides, values=values, exports=any(step.exports for step in steps))
            if training_deployment is not None:
                require_deployment(training_deployment)
            if any(step.reads_models for step in steps):
                # A server that doesn't answer is reported before the data stages work for minutes.
                assert session.tracking
            if ingest:
                run_as_task(Ingest(data), session, results)
            if Promote in steps:
                check_levels(session)
        if Prepare in steps:
            run_as_task(Prepare(), session, results)
            session = session.for_data()
    for step in steps[steps.index(Prepare) + 1 :] if Prepare in steps else ():
        if step is Train and training_deployment is not None:
            # Before the step, for that holds the lock which the worker's own training needs.
            train_on(training_deployment, session, results[Prepared])
        run_as_task(step(), session, results)
    if Promote in steps:
        results.add(_pages(session, results))
    return results


def _pages(session: Session, results: Results) -> Pages:
    return pages(
        session.project,
        experiment_id=session.tracking.experiment_id,
        run_id=results[Exported].run_id,
        name=session.params.register.name,
        version=results[Promoted].version,
    )


def summarize(results: Results) -> RunSummary:
    """Of a run that went as far as `promote`."""
    exported, promoted, prepared = results[Exported], results[Promoted], results[Prepared]
    record, served = exported.record, exported.record.served_file.measured
    return RunSummary(
        version=promoted.version,
        promoted=promoted.promoted,
        status=promoted.status,
        reasons=promoted.reasons,
        data_version=prepared.data_version,
        split_digest=prepared.split_digest,
        run_id=exported.run_id,
        metrics={
            "torch": Headline.of(results[Evaluated].scores.values),
            **{f"onnx_{name}": Headline.of(one.test.values) for name, one in record.formats.items()},
        },
        served=record.served,
        bytes=served.size_bytes,
        latency_ms=served.latency.p50_ms,
        latency_p95_ms=served.latency.p95_ms,
        steps=results.times,
        pages=results[Pages],
    )


@flow(name="promote")
def promote(
    version: str | None = None,
    overrides: list[str] | None = None,
    project: str | None = None,
    values: dict[str, Any] | None = None,
) -> GateOutcome:
    """Lets the gate decide on one registered version, by default the newest, without training."""
    session = open_session(project, overrides, values=values)
    name = session.params.register.name
    number = require_same_model(version, own=name, where="register.name") if version else newest_version(session)
    prepared = run_all([Prepare()], session)[Prepared]
    return run_all([Promote(number, again=version is not None)], session.for_data(), prepared)[Promoted].outcome
