"""What every step of one run shares, and what a step tells when it is over."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock

from flows.console import say
from flows.params import Params
from flows.preflight import settle_params
from flows.project import Project, open_project
from flows.tracking.runs import Tracking, open_tracking

State = Literal["ran", "reused"]


@dataclass(frozen=True)
class Session:
    project: Project
    params: Params
    tracking: Tracking


@dataclass(frozen=True)
class StepTime:
    name: str
    seconds: float
    state: State


@dataclass
class Stopwatch:
    """Times one step and says how it went; a step that found its work done calls `reused`."""

    name: str
    state: State = "ran"
    seconds: float = 0.0
    note: str = field(default="")

    def reused(self, note: str = "nothing it depends on has changed") -> None:
        self.state, self.note = "reused", note

    def time(self) -> StepTime:
        return StepTime(self.name, round(self.seconds, 3), self.state)


def open_session(folder: str | None = None, overrides: list[str] | None = None, *, exports: bool = False) -> Session:
    """Reads and checks everything that can be checked before work begins; `exports` where files will be exported."""
    project = open_project(Path(folder) if folder else None)
    params = settle_params(project, overrides, exports=exports)
    return Session(project, params, open_tracking(project, params.register.name))


def alone(session: Session, mark: str) -> FileLock:
    """Held while a step is worked: a second run in the same folder waits, and then finds the work done."""
    folder = session.project.work / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / mark)


@contextmanager
def timed(name: str) -> Iterator[Stopwatch]:
    watch = Stopwatch(name)
    started = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - started
    say(f"{name:<9} {watch.state:<6} {watch.seconds:7.1f} s  {watch.note}".rstrip())
