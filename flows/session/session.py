"""The context of one run's steps: the project, its settings, the tracking server, decoded images and step times."""

import logging
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from components.data.packed.shared_file import RefCountedFile, decoded_file
from components.records.data_facts import FACTS, DataFacts
from flows.console.logs import set_default_level
from flows.project.dvc import data_paths
from flows.project.params import Params, shown
from flows.project.project import Project, open_project
from flows.session.preflight import resolve_params
from flows.tracking.runs import Tracking, open_tracking

logger = logging.getLogger(__name__)

State = Literal["ran", "reused"]


class DecodedImages:
    """Lets the steps of a run share what they decode of its training images, until the run is over."""

    def __init__(self) -> None:
        self._held: dict[Path, RefCountedFile] = {}
        # Also at the end of a process that never lets the run go.
        weakref.finalize(self, _release, self._held)

    def file(self, project: Project, augmented_digest: str) -> Path:
        """Where the images of this data are kept; what killed runs left of other data goes."""
        folder = project.work / "decoded"
        file = decoded_file(folder, augmented_digest)
        if file not in self._held:
            # Where a file system can't lock, each training says so itself, and does without.
            with suppress(OSError):
                self._held[file] = RefCountedFile(file)
                for other in set(folder.glob(decoded_file(folder, "*").name)) - {file}:
                    RefCountedFile(other).release()
        return file


def _release(held: dict[Path, RefCountedFile]) -> None:
    for one in held.values():
        one.release()


@dataclass(frozen=True)
class Session:
    """One run's project, settings and tracking server."""

    project: Project
    params: Params
    values: Mapping[str, Any] = field(default_factory=dict)
    """Those of the params that hold for this run alone, by names such as train.epochs."""
    decoded: DecodedImages = field(default_factory=DecodedImages, compare=False, repr=False)

    def for_data(self) -> "Session":
        """The session with a value for each setting that is `auto`, chosen for the prepared data."""
        if not self.params.automatic:
            return self
        params, choices = self.params.for_data(DataFacts.read(data_paths(self.project).split / FACTS))
        for choice in choices:
            logger.info(f"{choice.name}: {shown(choice.value)} ({choice.reason})")
        return replace(self, params=params)

    @cached_property
    def tracking(self) -> Tracking:
        """The experiment of the model; made on the tracking server, if need be, when a step first asks for it."""
        return open_tracking(self.project, self.params.register.name)


@dataclass(frozen=True)
class StepTime:
    """How long a step took, and whether it ran or an earlier result was reused."""

    name: str
    seconds: float
    state: State


@dataclass(frozen=True)
class Prepared:
    """The split and packed data that the model steps read."""

    data_version: str
    split_digest: str
    augmented_digest: str
    """A digest of everything that training reads."""
    augmented: Path | None = None
    """The folder of the packed data; None: the one that the stage `augment` wrote."""


@dataclass
class Stopwatch:
    """Times one step and says how it went; a step that found its work done calls `reused`."""

    name: str
    state: State = "ran"
    seconds: float = 0.0
    note: str = field(default="")

    def reused(self, note: str) -> None:
        self.state, self.note = "reused", note

    def time(self) -> StepTime:
        return StepTime(self.name, round(self.seconds, 3), self.state)


def open_session(
    folder: str | None = None,
    overrides: list[str] | None = None,
    *,
    values: Mapping[str, Any] | None = None,
    exports: bool = False,
) -> Session:
    """Reads and checks everything that can be checked before work begins; `exports` where files will be exported.

    `overrides` are written into params.yaml, `values` hold for this session alone.
    """
    set_default_level()
    project = open_project(Path(folder) if folder else None)
    return Session(project, resolve_params(project, overrides, values=values, exports=exports), values or {})


def exclusive(project: Project, name: str) -> FileLock:
    """The lock of this name in the project folder: a second holder waits."""
    folder = project.work / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / name)


@contextmanager
def timed(name: str) -> Iterator[Stopwatch]:
    watch = Stopwatch(name)
    started = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - started
    logger.info(f"{name:<9} {watch.state:<6} {watch.seconds:7.1f} s  {watch.note}".rstrip())
