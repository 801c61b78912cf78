"""What a person sees while a flow works: sentences and bars on standard error, the sentences in Prefect's log too."""

import sys
from typing import Any

from components.shared.progress import Bars, Progress, for_terminal

_progress: Progress | None = None


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
    logger = _run_logger()
    if logger is not None:
        logger.info(sentence)


def progress() -> Progress:
    """The process's one progress display."""
    global _progress
    if _progress is None:
        _progress = for_terminal()
    return _progress


def clear_progress() -> None:
    """Before the last words of a command that was broken off."""
    if isinstance(_progress, Bars):
        _progress.clear()


def _run_logger() -> Any:
    """Prefect's logger of the flow or task that runs, or None outside of one."""
    if "prefect" not in sys.modules:
        return None
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    try:
        return get_run_logger()
    except MissingContextError:
        return None
