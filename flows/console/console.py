"""The progress display of this process."""

import logging

from components.shared.progress import Bars, Progress, for_terminal, silent
from flows.console.logs import console_level

_progress: Progress | None = None


def progress() -> Progress:
    """The process's one progress display; `darkroom --quiet` shows none."""
    global _progress
    if _progress is None:
        _progress = for_terminal() if console_level() <= logging.INFO else silent
    return _progress


def clear_progress() -> None:
    """Removes the bars of a command that was stopped, so that its last message stands alone."""
    if isinstance(_progress, Bars):
        _progress.clear()
