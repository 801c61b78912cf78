"""Ctrl-C, SIGTERM and a closed terminal: a command stops within seconds, whatever it waits for."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_CODE = 130
"""Of what was stopped before its end, as a shell counts SIGINT."""
_PATIENCE_SECONDS = 8.0
_undisturbed = threading.Lock()


@contextlib.contextmanager
def interrupts(at_latest: Callable[[], None] | None = None) -> Iterator[None]:
    """Raises KeyboardInterrupt once, for whichever of the three comes first; those after it are ignored.

    With `at_latest` the process ends some seconds later even where the exception got lost or something waits forever;
    that function is called just before.
    """
    if threading.current_thread() is not threading.main_thread():
        # Only there Python takes signals.
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        # The next one must not cut off the stopping.
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        if at_latest is not None:
            end = threading.Timer(_PATIENCE_SECONDS, _end, (at_latest,))
            end.daemon = True
            end.start()
        raise KeyboardInterrupt

    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN  # nohup ignores SIGHUP
    }
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """The block comes to its end, however long it takes: it brings back what was stopped in its midst."""
    with _undisturbed:
        yield


def _end(at_latest: Callable[[], None]) -> None:
    with _undisturbed:
        try:
            at_latest()
        finally:
            # Even where the terminal is gone. Servers and trainings end with their pipe.
            os._exit(EXIT_CODE)
