"""Work in a process of its own."""

import sys
import time
from pathlib import Path

import pytest

from components.shared.errors import TrainingDiverged
from flows.project.child_process import Event, run_child

_REPORTS = """
import json, os, sys
def report(**event):
    with open(os.environ["DARKROOM_EVENTS"], "a") as events:
        events.write(json.dumps(event) + "\\n")
report(event="epoch", epoch=1)
"""
_UNTIL_ITS_PARENT_ENDS = """
while os.read(0, 1024):
    pass
open(sys.argv[1], "w").write("ended by itself")
"""
_FAILS = 'report(event="failed", type="TrainingDiverged", message="loss is nan")\nsys.exit(2)'


class Enough(Exception):
    pass


def stop(event: Event) -> None:
    raise Enough(f"after epoch {event['epoch']}")


def test_what_is_raised_at_an_event_ends_the_process_and_reaches_the_caller(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _REPORTS + _UNTIL_ITS_PARENT_ENDS, str(tmp_path / "last words")]
    started = time.monotonic()
    with pytest.raises(Enough, match="after epoch 1"):
        run_child(command, folder=tmp_path, log=tmp_path / "log", on_event=stop)
    assert time.monotonic() - started < 9
    assert (tmp_path / "last words").read_text() == "ended by itself"


def test_a_mistake_that_the_process_reported_is_raised(tmp_path: Path) -> None:
    seen: list[Event] = []
    with pytest.raises(TrainingDiverged, match="loss is nan"):
        run_child(
            [sys.executable, "-c", _REPORTS + _FAILS], folder=tmp_path, log=tmp_path / "log", on_event=seen.append
        )
    assert [event["event"] for event in seen] == ["epoch", "failed"]
