"""How a command works and how it ends: a mistake is one sentence and an exit code."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from components.errors import DarkroomError
from components.files import DISK_FULL


def run_flow(name: str, **parameters: Any) -> Any:
    """Runs the Prefect flow `name` of the module of that name."""

    def work() -> Any:
        from flows.environment import prepare_prefect
        from flows.project import open_project

        server_is_up = prepare_prefect(open_project())
        flow = getattr(import_module(f"flows.{name}"), name)
        server_is_up()
        return flow(**parameters)

    return guarded(work)


def guarded(work: Callable[[], Any]) -> Any:
    """A mistake is one sentence and an exit code; anything else keeps its traceback, for it is ours."""
    try:
        return work()
    except DarkroomError as problem:
        _stop(str(problem), problem.exit_code)
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        said = os.strerror(problem.errno).lower()
        _stop(f"the disk is full ({said}); free some space and try again", DarkroomError.exit_code)
    except KeyboardInterrupt:
        _stop("stopped; the next run goes on from here", 130)


def _stop(sentence: str, code: int) -> NoReturn:
    print(f"darkroom: {sentence}", file=sys.stderr, flush=True)
    sys.exit(code)
