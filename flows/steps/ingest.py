"""Bring images in from the outside as a new version of data/raw, which DVC tracks."""

import logging
from collections import Counter
from dataclasses import dataclass

from components.data.raw.dataset import RawFile
from components.data.raw.ingest import write_raw
from components.data.sources import IngestSettings, Source, find
from components.data.sources.left_out import NO_IMAGE, left_out_sentences
from components.data.split.names import SPLITS
from components.data.split.splitter import SplitSettings
from components.shared.errors import DataError
from components.shared.files import temporary_folder
from components.shared.plural import Sentence, commonest, counted
from components.task.task import Task
from flows.console.console import progress
from flows.project.dvc import data_paths, data_version, replace_raw, restore_data_on_failure, restore_raw
from flows.project.project import Project
from flows.project.sections import read_section
from flows.session.preflight import first_source
from flows.session.session import Session, Stopwatch
from flows.steps.step import Results, TimedStep

logger = logging.getLogger(__name__)

_SHOWN_CLASSES = 12


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
        location = self.data or first_source(project, session.params.ingest)
        source = _listed(project, location)
        with restore_data_on_failure(project):
            version, summary = _bring_in(project, source)
        if version == before:
            watch.reused(f"{location} is data version {version[:12]}, which is the current one")
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
    for note in source.notes:
        logger.warning(note)
    untaken = [row.problem for row in packed.rows if row.problem is not None]
    if untaken:
        taken = counted(len(packed.rows), "file")
        logger.warning(f"in quarantine, for they can't be taken: {len(untaken)} of {taken} ({commonest(untaken)})")
    for kind, sentence in left_out_sentences(source.left_out).items():
        logger.log(logging.INFO if kind == NO_IMAGE else logging.WARNING, sentence)
    if source.num_hidden:
        logger.info(f"left out: {counted(source.num_hidden, 'hidden file or folder', 'hidden files or folders')}")
    logger.info(_classes(packed.rows, source.task_type))
    repacked = f", {counted(packed.num_repacked, 'shard')} repacked" if packed.num_repacked else ""
    return version, f"{counted(len(packed.rows), 'file')}, {packed.num_new} of them new{repacked}"


def _classes(rows: list[RawFile], task: type[Task]) -> Sentence:
    """The classes with their images: the first dozen, and how many more."""
    labels = [row.labels for row in rows if row.problem is None]
    counts = sorted(Counter(name for names in labels for name in task.classes_of(names)).items())
    shown = ", ".join(f"{name} ({count})" for name, count in counts[:_SHOWN_CLASSES])
    more = f", and {len(counts) - _SHOWN_CLASSES} more" if len(counts) > _SHOWN_CLASSES else ""
    unlabelled = sum(not names for names in labels)
    without = f"; without any label: {counted(unlabelled, 'image')}" if unlabelled else ""
    return f"{len(counts)} {task.title} classes and their images: {shown}{more}{without}"


def _restore_version_before(project: Project) -> None:
    try:
        restore_raw(project)
    except DataError as problem:
        logger.info(f"{problem}; every image counts as new")
