"""Bring images in from the outside as a new version of data/raw, which DVC tracks."""

from dataclasses import dataclass

from prefect import flow

from components.data.ingesting import write_raw
from components.data.sources import EMBEDDED_DIGITS, Source, find
from components.files import whole_folder
from flows.console import progress, say
from flows.project import Project, open_project
from flows.repro import add_raw, data_kept_on_failure, data_paths, data_version
from flows.session import StepTime, timed
from flows.tasks import step


@dataclass(frozen=True)
class Ingested:
    data_version: str
    time: StepTime


@step("ingest")
def ingest_data(project: Project, data: str | None) -> Ingested:
    """Without `data` the version at hand goes on; where there is none yet, the embedded digits are taken."""
    with timed("ingest") as watch:
        before = data_version(project)
        if data is None and before is not None:
            watch.reused(f"data version {before[:12]} at hand")
            return Ingested(before, watch.time())
        source = find(data or EMBEDDED_DIGITS)
        with data_kept_on_failure(project):
            version = _bring_in(project, source)
        if version == before:
            watch.reused(f"{data} is data version {version[:12]}, which is at hand")
        else:
            watch.note = f"{len(source.images)} files, data version {version[:12]}"
    return Ingested(version, watch.time())


def _bring_in(project: Project, source: Source) -> str:
    with whole_folder(data_paths(project).raw) as draft:
        rows = write_raw(source, draft, progress=progress())
    untaken = sum(row.problem is not None for row in rows)
    if untaken:
        say(f"{untaken} files can't be taken and go to quarantine")
    if source.left_aside:
        say(f"left aside, for they stand outside the class folders: {', '.join(source.left_aside[:5])}")
    return add_raw(project)


@flow(name="ingest")
def ingest(data: str | None = None, project: str | None = None) -> str:
    """Ingests alone; returns the data version."""
    from pathlib import Path

    return ingest_data(open_project(Path(project) if project else None), data).data_version
