"""How a command works and how it ends: a mistake is one sentence and an exit code, and so is a Ctrl-C."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from components.shared.errors import DarkroomError
from components.shared.files import DISK_FULL
from flows.console.console import clear_progress
from flows.console.logs import log_to_file
from flows.console.signals import EXIT_CODE, interrupts

_EXPORTS = ("pipeline", "compare", "ensemble", "quantize", "register")
"""Flows that measure exported files on this machine."""
_MODULES = {
    "pipeline": "flows.pipeline",
    "rollback": "flows.registry.rollback",
    **{name: f"flows.experiments.{name}" for name in ("tune", "compare", "ensemble")},
}
"""Where a flow stands that isn't a step of the pipeline."""
_DATA_ALONE = ("ingest", "prepare")
_NO_TRAINING = (*_DATA_ALONE, "promote", "rollback")
_GOES_ON = "the same command goes on where it was"
_HOW = {
    "ingest": "the data are as they were, and the same command brings them in from the start",
    "tune": f"{_GOES_ON}: trials that are over count, and a training that was begun goes on from its last checkpoint",
}
"""What becomes of a flow that is stopped, where that isn't what becomes of most."""
_HOW_MOST = (
    f"{_GOES_ON}: steps that are over are reused, and a training that was begun goes on from its last checkpoint"
)


def run_flow(name: str, *, models: Sequence[str] = (), **parameters: Any) -> Any:
    """Runs the Prefect flow `name` of the module of that name.

    `models` are the versions and architectures among the parameters: they are looked up before anything starts.
    """

    def work() -> Any:
        from flows.project.project import open_project
        from flows.servers.ephemeral import prepare_prefect
        from flows.session.preflight import check_arguments

        project = open_project()
        typed = {key: parameters[key] for key in ("overrides", "data") if key in parameters}
        check_arguments(project, **typed, models=models, trains=name not in _NO_TRAINING, exports=name in _EXPORTS)
        server_is_up = prepare_prefect(project)
        flow = getattr(import_module(_MODULES.get(name, f"flows.steps.{name}")), name)
        if name not in _DATA_ALONE:
            from flows.tracking.connection import connect

            # Seconds of imports, and of making a database, that the server's start takes anyway.
            connect(project)
        server_is_up()
        return flow(**parameters)

    command = "run" if name == "pipeline" else name
    return guarded(work, stopped=f"{command} was stopped; {_HOW.get(name, _HOW_MOST)}")


def guarded(work: Callable[[], Any], *, stopped: str | None = "stopped; the same command begins again") -> Any:
    """A mistake is one sentence and an exit code; anything else keeps its traceback, for it is ours.

    `stopped` is what Ctrl-C, SIGTERM or a closed terminal end with, within seconds; None where the work stops by itself
    and takes the time that it needs.
    """
    said = False

    def say_stopped() -> None:
        nonlocal said
        if not said:
            said = True
            _say(stopped or "stopped")

    try:
        with interrupts(at_latest=say_stopped if stopped is not None else None):
            return work()
    except DarkroomError as problem:
        _stop(str(problem), problem.exit_code)
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        told = os.strerror(problem.errno).lower()
        _stop(f"the disk is full ({told}); free some space and try again", DarkroomError.exit_code)
    except KeyboardInterrupt:
        # A second one while the process ends would print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say_stopped()
        sys.exit(EXIT_CODE)


def _stop(sentence: str, code: int) -> NoReturn:
    _say(sentence)
    sys.exit(code)


def _say(sentence: str) -> None:
    clear_progress()
    print(f"darkroom: {sentence}", file=sys.stderr, flush=True)
    log_to_file(sentence)
