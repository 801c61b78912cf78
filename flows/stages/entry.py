"""What every stage has around its work: one sentence for a mistake, an exit code, and word to the parent process."""

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
    """Does the work, prints its one-line summary and exits; a mistake is one sentence on standard error."""
    path = os.environ.get(EVENTS_VARIABLE)
    tell = EventFile(path).write if path else lambda **_: None
    started = time.perf_counter()
    try:
        summary = _done(name, work)
    except DarkroomError as problem:
        # On a full disk one of the two may not get through.
        with contextlib.suppress(OSError):
            print(f"darkroom: {problem}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):
            tell(event="failed", stage=name, **record_of(problem))
        sys.exit(problem.exit_code)
    tell(event="ran", stage=name, seconds=time.perf_counter() - started, summary=summary)
    print(f"{name}: {summary}", file=sys.stderr)
    sys.exit(0)


def _done(name: str, work: Callable[[Progress], str]) -> str:
    try:
        return work(from_environment())
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        where, said = problem.filename or Path.cwd(), os.strerror(problem.errno).lower()
        raise DarkroomError(f"{name}: the disk of {where} is full ({said}); free some space and run it again") from None
