"""Bring the DVC stages validate → split → augment up to date."""

import logging

from components.records.leak_proof import LEAK_PROOF, LeakProof
from flows.console.console import progress
from flows.project.child_process import Event
from flows.project.dvc import StageRun, data_paths, data_version, reproduce, restore_data_on_failure, stage_digest
from flows.project.project import Project
from flows.report.data_pages import render_data_pages
from flows.session.session import Prepared, Session, StepTime
from flows.steps.step import Results, Step

logger = logging.getLogger(__name__)


class Prepare(Step[Prepared]):
    """Runs the data stages; DVC knows which of them have nothing to do, so this step has no fingerprint."""

    name = "prepare"
    reads_models = False

    def run(self, session: Session, results: Results) -> Prepared:
        """Raises DataError, with the data version as it was, when the data breaks a rule of level stop."""
        project = session.project
        with restore_data_on_failure(project):
            try:
                stages = reproduce(project, _show)
            finally:
                # Before failing data is replaced: the pages show its images.
                for page in render_data_pages(project):
                    logger.info(f"see {page.relative_to(project.root)}")
        for stage in stages:
            state = "ran" if stage.ran else "reused"
            logger.info(f"{stage.name:<9} {state:<6} {stage.seconds:7.1f} s  {stage.summary}")
        results.times += [_time(stage) for stage in stages]
        prepared = prepared_data(project)
        results.add(prepared)
        return prepared


def prepared_data(project: Project) -> Prepared:
    """What the stages left, once they are up to date."""
    version = data_version(project)
    assert version is not None
    return Prepared(
        data_version=version,
        split_digest=LeakProof.read(data_paths(project).split / LEAK_PROOF).split_digest,
        augmented_digest=stage_digest(project, "augment"),
    )


def _time(stage: StageRun) -> StepTime:
    return StepTime(stage.name, round(stage.seconds, 3), "ran" if stage.ran else "reused")


def _show(event: Event) -> None:
    if event["event"] == "progress":
        progress()(event["task"], event["done"], event["total"])
