"""`python -m components.training.process JOB.json`: one training in a process of its own, which can be killed.

Events, among them what is logged, go to the file that DARKROOM_EVENTS names, a JSON object a line, or to standard
error. The process ends
itself when its parent is gone, so that a killed run leaves nothing behind that works on.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from components.shared.errors import DarkroomError, record_of
from components.shared.files import read_json, write_json
from components.shared.progress import EVENTS_VARIABLE, EventFile
from components.training.allocator import keep_freed_memory
from components.training.failure_broadcast import Outcome, error_of
from components.training.fit import fit
from components.training.settings import TrainingJob

RESULT = "result.json"
_LEADER_SECONDS = 2.0
"""For the first process to tell what ends all of them."""


def main() -> int:
    # Lightning writes into the variables when it starts other processes.
    environment = dict(os.environ)
    job = TrainingJob.from_section("job", read_json(Path(sys.argv[1])))
    if os.environ.get("DARKROOM_PARENT_PIPE"):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    # Of processes that train together the first one tells.
    leads = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    path = os.environ.get(EVENTS_VARIABLE) if leads else None
    events = EventFile(path) if path else None

    def tell(**event: Any) -> None:
        if events is not None:
            events.write(**event)
        else:
            print(event, file=sys.stderr, flush=True)

    def leave(outcome: Outcome) -> None:
        problem = error_of(outcome)
        if problem is None:
            _begin_anew(environment, outcome.port, leads)
        elif leads:
            tell(event="failed", stage=job.step, **record_of(problem))
        else:
            time.sleep(_LEADER_SECONDS)
        _kill_children()
        os._exit(problem.exit_code if problem is not None else 1)

    # Processes that train together log the same.
    handler = EventLog(tell) if leads else logging.NullHandler()
    try:
        with _handled_by(handler):
            result = fit(
                job,
                on_epoch=lambda report: tell(event="epoch", **asdict(report)),
                on_step=lambda done, total: events(job.step, done, total) if events else None,
                leave=leave,
            )
    except DarkroomError as problem:
        tell(event="failed", stage=job.step, **record_of(problem))
        return problem.exit_code
    # Written last: its presence says that the job is done.
    if leads:
        write_json(
            Path(job.output) / RESULT,
            {
                "best_epoch": result.best_epoch,
                "scores": result.scores,
                "history": [asdict(report) for report in result.history],
                "diagnosis": asdict(result.diagnosis),
            },
        )
    return 0


class EventLog(logging.Handler):
    """Reports what is logged as events."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(event="log", logger=record.name, level=record.levelno, message=record.getMessage())


@contextlib.contextmanager
def _handled_by(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("components")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _begin_anew(environment: dict[str, str], port: int | None, leads: bool) -> None:
    """The same process from its first line on, whatever it waits for now, and with the device's memory free again."""
    if port is None and not leads:
        # The first process ends this one, and starts it again.
        time.sleep(60)
        return
    _kill_children()
    if port is not None:
        # The store of torchrun knows where this attempt's processes were; the first one keeps the next.
        environment = environment | {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _kill_children() -> None:
    """Those that load images, and those that the first process started: they would outlive this one."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def _end_with_parent() -> None:
    """The parent holds the other end of standard input and never writes: it ends only when the parent does."""
    # Not sys.stdin: a thread that waits in it would break the interpreter's own shutdown.
    while os.read(0, 1024):
        pass
    os._exit(130)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
