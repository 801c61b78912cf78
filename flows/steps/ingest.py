"""Bring images in from the outside as a new version of data/raw, which DVC tracks."""

import logging
from dataclasses import dataclass

from components.data.raw.ingest import write_raw
from components.data.sources import EMBEDDED_DIGITS, IngestSettings, Source, find
from components.data.split.names import SPLITS
from components.data.split.splitter import SplitSettings
from components.shared.errors import DataError
from components.shared.files import temporary_folder
from components.shared.plural import counted
from flows.console.console import progress
from flows.project.dvc import data_paths, data_version, replace_raw, restore_data_on_failure, restore_raw
from flows.project.project import Project
from flows.project.sections import read_section
from flows.session.session import Session, Stopwatch
from flows.steps.step import Results, TimedStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ingested:
    """The current version of the raw data."""

    data_version: str


@dataclass(frozen=True)
class Ingest(TimedStep[Ingested]):
    """Brings a source in; DVC knows whether anything in it is new, so this step has no fingerprint."""

    name = "ingest"
    reads_models = False
    data: str | None = None
    """The source; None continues with the current version, or where there is none takes the embedded digits."""

    def find_or_work(self, session: Session, results: Results, watch: Stopwatch) -> Ingested:
        project, before = session.project, data_version(session.project)
        if self.data is None and before is not None:
            watch.reused(f"current data version {before[:12]}")
            return Ingested(before)
        source = _listed(project, self.data or EMBEDDED_DIGITS)
        with restore_data_on_failure(project):
            version, summary = _bring_in(project, source)
        if version == before:
            watch.reused(f"{self.data} is data version {version[:12]}, which is the current one")
        else:
            watch.note = f"{summary}, data version {version[:12]}"
        return Ingested(version)


def _listed(project: Project, location: str) -> Source:
    split_settings = read_section(project.params, "split", SplitSettings)
    return find(
        location,
        read_section(project.params, "ingest", IngestSettings),
        extra_splits=[split for split in split_settings.splits if split not in SPLITS],
        uses_given_splits=split_settings.given != "ignore",
    )


def _bring_in(project: Project, source: Source) -> tuple[str, str]:
    """The new data version, and what came in."""
    raw = data_paths(project).raw
    _restore_version_before(project)
    with temporary_folder(raw) as draft:
        packed = write_raw(source, draft, previous=raw, progress=progress())
        version = replace_raw(project, draft)
    untaken = sum(row.problem is not None for row in packed.rows)
    if untaken:
        taken = counted(len(packed.rows), "file")
        logger.info(f"in quarantine, each with its reason, for they can't be taken: {untaken} of {taken}")
    if ignored := source.ignored:
        logger.info(f"ignored, no image of a class: {counted(len(ignored), 'file')}, such as {', '.join(ignored[:5])}")
    if source.num_hidden:
        logger.info(f"left out: {counted(source.num_hidden, 'hidden file or folder', 'hidden files or folders')}")
    repacked = f", {counted(packed.num_repacked, 'shard')} repacked" if packed.num_repacked else ""
    return version, f"{counted(len(packed.rows), 'file')}, {packed.num_new} of them new{repacked}"


def _restore_version_before(project: Project) -> None:
    try:
        restore_raw(project)
    except DataError as problem:
        logger.info(f"{problem}; every image counts as new")
