"""Progress of long work: a bar on a terminal, plain lines in a log, JSON lines for a parent process.

A component calls the `Progress` that it is given; an entry point chooses one with `from_environment`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

EVENTS_VARIABLE = "DARKROOM_EVENTS"
"""Environment variable: path of the file to which a child process appends its events, one JSON object a line."""

Item = TypeVar("Item")

_LINE_EVERY_SECONDS = 10.0


class Progress(Protocol):
    def __call__(self, task: str, done: int, total: int | None) -> None:
        """The total is None while it is unknown; the last call has done = total."""
        ...


def silent(task: str, done: int, total: int | None) -> None:
    """Reports nothing."""


def track(items: Iterable[Item], *, task: str, total: int, progress: Progress) -> Iterator[Item]:
    """Yields the items, and reports each once it is processed."""
    progress(task, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(task, done, total)


class EventFile:
    """Appends events, progress at most ten times a second, to the file that a parent process reads."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._last = 0.0

    def write(self, **event: Any) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")

    def __call__(self, task: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or now - self._last >= 0.1:
            self._last = now
            self.write(event="progress", task=task, done=done, total=total)


class PlainLines:
    """Writes a line every ten seconds, for logs."""

    def __init__(self, write: Callable[[str], object] = lambda text: print(text, file=sys.stderr, flush=True)) -> None:
        self._write = write
        self._last = time.monotonic()

    def __call__(self, task: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_SECONDS:
            self._last = now
            self._write(f"{task}: {done}" if total is None else f"{task}: {done} of {total}")


class Bars:
    """One bar for each task on the terminal, removed when the task is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self._tasks: dict[str, Any] = {}

    def __call__(self, task: str, done: int, total: int | None) -> None:
        if task not in self._tasks:
            self._bars.start()
            self._tasks[task] = self._bars.add_task(task, total=total)
        self._bars.update(self._tasks[task], completed=done, total=total)
        if total is not None and done >= total:
            self._bars.remove_task(self._tasks.pop(task))
            if not self._tasks:
                self._bars.stop()

    def clear(self) -> None:
        """Removes the bars of interrupted work and restores the terminal's cursor."""
        self._tasks.clear()
        self._bars.stop()


def for_terminal() -> Progress:
    return Bars() if sys.stderr.isatty() else PlainLines()


def from_environment() -> Progress:
    """Events where a parent process asks for them, else a bar or plain lines on standard error."""
    path = os.environ.get(EVENTS_VARIABLE)
    return EventFile(path) if path else for_terminal()
