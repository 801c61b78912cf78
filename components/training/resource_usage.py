"""What a training takes of its machine, with the processes that it started: loader workers, and those that share it."""

import contextlib
import os
import time
from dataclasses import dataclass

import psutil

_LOOK_SECONDS = 1.0
"""Between looks at the processes, each of which takes some milliseconds: a short epoch is told what was seen last."""
_UNDER_TORCHRUN = "TORCHELASTIC_RUN_ID"


@dataclass(frozen=True)
class Usage:
    cpu_percent: float
    """Of one core, since the look before."""
    memory_gib: float
    """Resident; what processes share counts in each."""


class UsageMeter:
    """Of all processes that train together on this host: the first one started the others, or torchrun all of them."""

    def __init__(self) -> None:
        process = psutil.Process()
        self._root = (process.parent() if _UNDER_TORCHRUN in os.environ else None) or process
        self._since = time.monotonic()
        self._busy, _ = self._look()
        self._told: Usage | None = None

    def read(self) -> Usage:
        seconds = time.monotonic() - self._since
        if self._told is None or seconds >= _LOOK_SECONDS:
            busy, resident = self._look()
            # A process that ends between two questions is in neither answer.
            self._told = Usage(100 * max(0.0, busy - self._busy) / seconds, resident / 2**30)
            self._since, self._busy = self._since + seconds, busy
        return self._told

    def _look(self) -> tuple[float, int]:
        """Seconds of all cores until now, and bytes."""
        busy, resident = 0.0, 0
        for process in (self._root, *self._root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # What has ended is counted by the process that waited for it.
                busy += times.user + times.system + times.children_user + times.children_system
                resident += process.memory_info().rss
        return busy, resident
