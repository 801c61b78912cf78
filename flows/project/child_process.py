"""Work in a process of its own, which can be killed, reports events while it works and dies with its parent."""

import contextlib
import contextvars
import json
import os
import signal
import subprocess
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import error_from_record
from components.shared.progress import EVENTS_VARIABLE
from flows.project.fingerprint import CODE_ROOT

Event = dict[str, Any]
_POLL_SECONDS, _END_SECONDS = 0.1, 10.0


@dataclass(frozen=True)
class Finished:
    exit_code: int
    events: list[Event]
    log: Path
    """Everything that the process printed."""


def code_variables() -> dict[str, str]:
    """By these a child process runs the code that runs here, whatever modules the folder has that it works in."""
    # From a checkout; site-packages must not come before the standard library.
    checkout = [str(CODE_ROOT)] if Path(sysconfig.get_path("purelib")).resolve() != CODE_ROOT else []
    path = os.pathsep.join([*checkout, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def run_child(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    on_event: Callable[[Event], None],
    variables: Mapping[str, str] | None = None,
) -> Finished:
    """Runs to the end. Raises the DarkroomError that the process reported; other failures are in the exit code.

    What `on_event` raises ends the process, as the end of its parent would, and is raised here.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        events_file = Path(scratch) / "events.jsonl"
        events_file.touch()
        environment = {
            **os.environ,
            **code_variables(),
            **(variables or {}),
            EVENTS_VARIABLE: str(events_file),
            "DARKROOM_PARENT_PIPE": "1",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal reaches us alone, and we end everything that works for the child too.
                start_new_session=True,
            )
        events: list[Event] = []
        ended = threading.Event()
        raised: list[Exception] = []

        def follow() -> None:
            try:
                _follow(events_file, ended, events, on_event)
            except Exception as problem:
                raised.append(problem)
                _end(process)

        # In this context, by which Prefect knows whose log the lines of `on_event` belong to.
        reader = threading.Thread(target=contextvars.copy_context().run, args=(follow,), daemon=True)
        reader.start()
        try:
            exit_code = process.wait()
        finally:
            if process.poll() is None:
                _kill(process)
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
            ended.set()
            reader.join()
    if raised:
        raise raised[0]
    for event in events:
        if event["event"] == "failed":
            raise error_from_record(event)
    return Finished(exit_code, events, log)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Lets the process see the end of its parent, on which it ends itself; kills one that doesn't."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """With all of its session: DVC's stages, and the processes that load images."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def last_lines(log: Path, count: int = 5) -> str:
    return " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-count:])


def _follow(file: Path, ended: threading.Event, events: list[Event], on_event: Callable[[Event], None]) -> None:
    with file.open(encoding="utf-8") as stream:
        rest = ""
        while True:
            over = ended.wait(_POLL_SECONDS)
            *lines, rest = (rest + stream.read()).split("\n")
            for line in lines:
                event = json.loads(line)
                if event["event"] != "progress":
                    events.append(event)
                on_event(event)
            if over:
                return
