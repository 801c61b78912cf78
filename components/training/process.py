"""`python -m components.training.process JOB.json`: one training in a process of its own, which can be killed.

Events, among them log lines, go to the file named by DARKROOM_EVENTS, one JSON object a line, or to standard error.
The process ends itself when its parent is gone, so that a killed run leaves no process behind.
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

from components.shared.allocator import keep_freed_memory
from components.shared.errors import DarkroomError, record_of
from components.shared.files import read_json, write_json
from components.shared.progress import EVENTS_VARIABLE, EventFile
from components.training.failure_broadcast import GroupExit, error_of
from components.training.fit import fit
from components.training.settings import TrainingJob

RESULT = "result.json"
_LEADER_SECONDS = 2.0
"""Time for the leader to report the error that ends all processes."""


def main() -> int:
    # A copy: Lightning changes the variables when it starts other processes.
    environment = dict(os.environ)
    job = TrainingJob.from_section("job", read_json(Path(sys.argv[1])))
    if os.environ.get("DARKROOM_PARENT_PIPE"):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    # Only the leader of several processes reports.
    is_leader = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    path = os.environ.get(EVENTS_VARIABLE) if is_leader else None
    events = EventFile(path) if path else None

    def emit(**event: Any) -> None:
        if events is not None:
            events.write(**event)
        else:
            print(event, file=sys.stderr, flush=True)

    def leave(group_exit: GroupExit) -> None:
        problem = error_of(group_exit)
        if problem is None:
            _restart(environment, group_exit.port, is_leader)
        elif is_leader:
            emit(event="failed", stage=job.step, **record_of(problem))
        else:
            time.sleep(_LEADER_SECONDS)
        _kill_children()
        os._exit(problem.exit_code if problem is not None else 1)

    # Processes that train together log the same.
    handler = EventLog(emit) if is_leader else logging.NullHandler()
    try:
        with _handled_by(handler):
            result = fit(
                job,
                on_epoch=lambda report: emit(event="epoch", **asdict(report)),
                on_step=lambda done, total: events(job.step, done, total) if events else None,
                leave=leave,
            )
    except DarkroomError as problem:
        emit(event="failed", stage=job.step, **record_of(problem))
        return problem.exit_code
    # Written last: its presence says that the job is done.
    if is_leader:
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
    """Emits log records as events."""

    def __init__(self, emit_event: Callable[..., None]) -> None:
        super().__init__()
        self._emit_event = emit_event

    def emit(self, record: logging.LogRecord) -> None:
        self._emit_event(event="log", logger=record.name, level=record.levelno, message=record.getMessage())


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


def _restart(environment: dict[str, str], port: int | None, is_leader: bool) -> None:
    """Restarts this process from its first line, whatever it waits for now, with the device's memory free again."""
    if port is None and not is_leader:
        # The leader ends this process and starts it again.
        time.sleep(60)
        return
    _kill_children()
    if port is not None:
        # torchrun's store holds the addresses of this attempt; the leader hosts the store of the next one.
        environment = environment | {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _kill_children() -> None:
    """Ends loader workers, and the processes that the leader started: they would outlive this one."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def _end_with_parent() -> None:
    """Ends this process with its parent, which holds the other end of standard input and never writes to it."""
    # Not sys.stdin: a thread that waits in it would break the interpreter's own shutdown.
    while os.read(0, 1024):
        pass
    os._exit(130)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
