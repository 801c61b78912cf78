"""Work in a process of its own, which can be killed, tells events while it works and dies with its parent."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import error_from_record
from components.progress import EVENTS_VARIABLE

Event = dict[str, Any]
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Finished:
    exit_code: int
    events: list[Event]
    log: Path
    """Everything that the process printed."""


def run_child(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    on_event: Callable[[Event], None],
    variables: Mapping[str, str] | None = None,
) -> Finished:
    """Runs to the end. Raises the DarkroomError that the process told of; other failures are in the exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        events_file = Path(scratch) / "events.jsonl"
        events_file.touch()
        environment = {
            **os.environ,
            **(variables or {}),
            EVENTS_VARIABLE: str(events_file),
            "DARKROOM_PARENT_PIPE": "1",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )
        events: list[Event] = []
        ended = threading.Event()
        reader = threading.Thread(target=_follow, args=(events_file, ended, events, on_event), daemon=True)
        reader.start()
        try:
            exit_code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
            ended.set()
            reader.join()
    for event in events:
        if event["event"] == "failed":
            raise error_from_record(event)
    return Finished(exit_code, events, log)


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
