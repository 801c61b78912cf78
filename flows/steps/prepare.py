"""Bring the DVC stages validate → split → augment up to date."""

import logging
from pathlib import Path

from prefect import flow

from components.records.leak_proof import LEAK_PROOF, LeakProof
from flows.console.console import progress
from flows.project.child_process import Event
from flows.project.dvc import StageRun, data_paths, data_version, reproduce, restore_data_on_failure, stage_digest
from flows.project.project import Project, open_project
from flows.report.data_pages import render_data_pages
from flows.session.preflight import resolve_params
from flows.session.session import Prepared, StepTime
from flows.steps.task import step

logger = logging.getLogger(__name__)


@step("prepare")
def prepare_data(project: Project) -> Prepared:
    """Raises DataError, with the data version as it was, when the data breaks a rule that says stop."""
    try:
        stages = reproduce(project, _show)
    finally:
        for page in render_data_pages(project):
            logger.info(f"see {page.relative_to(project.root)}")
    for stage in stages:
        state = "ran" if stage.ran else "reused"
        logger.info(f"{stage.name:<9} {state:<6} {stage.seconds:7.1f} s  {stage.summary}")
    version = data_version(project)
    assert version is not None
    return Prepared(
        data_version=version,
        split_digest=LeakProof.read(data_paths(project).split / LEAK_PROOF).split_digest,
        augmented_digest=stage_digest(project, "augment"),
        times=[_time(stage) for stage in stages],
    )


def _time(stage: StageRun) -> StepTime:
    return StepTime(stage.name, round(stage.seconds, 3), "ran" if stage.ran else "reused")


def _show(event: Event) -> None:
    if event["event"] == "progress":
        progress()(event["task"], event["done"], event["total"])


@flow(name="prepare")
def prepare(overrides: list[str] | None = None, project: str | None = None) -> str:
    """Prepares alone; returns the split's digest."""
    opened = open_project(Path(project) if project else None)
    resolve_params(opened, overrides)
    with restore_data_on_failure(opened):
        return prepare_data(opened).split_digest
