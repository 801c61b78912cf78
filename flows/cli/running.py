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

_RESUMES = "the same command resumes: finished steps are reused, and a training continues from its last checkpoint"
_INGEST_AGAIN = "the data is as it was, and the same command ingests it from the start"


def run_pipeline(
    until: str,
    *,
    data: str | None = None,
    overrides: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
    ingest: bool = False,
) -> Any:
    """Runs the steps of the pipeline until the named one; returns their results."""
    from flows.steps.order import steps_until

    steps = steps_until(until)
    return run_flow(
        "flows.pipeline.pipeline",
        command="run" if ingest and until != "ingest" else until,
        models=any(step.reads_models for step in steps),
        trains=any(step.trains for step in steps),
        exports=any(step.exports for step in steps),
        stopped=_INGEST_AGAIN if until == "ingest" else _RESUMES,
        data=data,
        overrides=overrides,
        values=values,
        until=until,
        ingest=ingest,
    )


def run_flow(
    flow: str,
    *,
    command: str,
    check: Sequence[str] = (),
    models: bool = True,
    trains: bool = False,
    exports: bool = False,
    stages: bool = True,
    stopped: str = _RESUMES,
    values: Sequence[str] | None = None,
    **parameters: Any,
) -> Any:
    """Runs the Prefect flow at this import path, such as flows.pipeline.pipeline.

    `check` are the versions and architectures among the parameters: they are looked up before anything starts.
    `models` says whether the flow needs the tracking server, `trains` whether it starts from other models, `exports`
    whether it runs exported files here, `stages` whether it runs DVC; `stopped` is what becomes of it on Ctrl-C.
    `values` are settings of this run alone, as section.key=value.
    """

    def work() -> Any:
        from flows.project.project import open_project
        from flows.servers.ephemeral import prepare_prefect
        from flows.session.preflight import check_arguments

        project = open_project()
        if values:
            from flows.project.params import parse_assignment

            parameters["values"] = dict(parse_assignment(one, option="--with") for one in values)
        typed = {
            key: parameters[key]
            for key in ("overrides", "data", "out", "overwrite", "values", "ingest")
            if key in parameters
        }
        check_arguments(project, **typed, models=check, trains=trains, exports=exports, stages=stages)
        server_is_up = prepare_prefect(project)
        module, _, name = flow.rpartition(".")
        function = getattr(import_module(module), name)
        if models:
            from flows.tracking.connection import connect

            # It takes seconds to import MLflow and to create its database, in which the Prefect server starts anyway.
            connect(project)
        server_is_up()
        return function(**parameters)

    return guarded(work, stopped=f"{command} was stopped; {stopped}")


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
    except BrokenPipeError:
        # Whoever read what we print wants no more of it, such as `head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        reason = os.strerror(problem.errno).lower()
        _stop(f"the disk is full ({reason}); free some space and try again", DarkroomError.exit_code)
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
