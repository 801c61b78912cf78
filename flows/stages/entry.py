"""What every stage does around its work: errors as one sentence and an exit code, events for the parent process."""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from components.shared.errors import DarkroomError, record_of
from components.shared.files import DISK_FULL
from components.shared.progress import EVENTS_VARIABLE, EventFile, Progress, from_environment


def run_stage(name: str, work: Callable[[Progress], str]) -> NoReturn:
    """Does the work, prints its one-line summary and exits; an error is one sentence on standard error."""
    path = os.environ.get(EVENTS_VARIABLE)
    report = EventFile(path).write if path else lambda **_: None
    started = time.perf_counter()
    try:
        summary = _run(name, work)
    except DarkroomError as problem:
        # On a full disk either of the two can fail.
        with contextlib.suppress(OSError):
            print(f"darkroom: {problem}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            report(event="failed", stage=name, **record_of(problem))
        sys.exit(problem.exit_code)
    report(event="ran", stage=name, seconds=time.perf_counter() - started, summary=summary)
    print(f"{name}: {summary}", file=sys.stderr)
    sys.exit(0)


def _run(name: str, work: Callable[[Progress], str]) -> str:
    try:
        return work(from_environment())
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        path, reason = problem.filename or Path.cwd(), os.strerror(problem.errno).lower()
        raise DarkroomError(
            f"{name}: the disk of {path} is full ({reason}); free some space and run it again"
        ) from None
