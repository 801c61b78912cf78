"""What stops one of several processes that train together stops all of them: none is left waiting for the others.

The process that can't go on leaves a note in the store by which the group met. The first process decides what follows,
and all leave this attempt at the same time, from a thread of their own: each main thread may wait, without end, for a
sum that the failed one never adds to.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from components.shared.errors import DarkroomError, error_from_record, record_of
from components.training.batch_halving import is_out_of_memory
from components.training.distributed import Group

_NOTE, _OUTCOME, _KNOWN = "darkroom/note", "darkroom/outcome", "darkroom/known"
_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 10.0
"""Until a process that can't go on is left to itself: the others are gone then, or never hear."""
_OUT_OF_MEMORY = {"type": "OutOfMemory", "message": ""}


@dataclass(frozen=True)
class Outcome:
    """How all processes leave an attempt: for an error, or to begin anew."""

    error: dict[str, str] | None = None
    """As a record; None: they begin anew."""
    port: int | None = None
    """Of the first process's host, where they meet when they begin anew; None: the first one starts the others."""


Leave = Callable[[Outcome], None]
"""Ends this process or begins it anew; doesn't return."""


class Alarm(Callback):
    """Watches over one process of a group.

    `make_room` is asked, in the first process, what follows from too little memory: the next attempt fits, or it raises
    the DarkroomError that ends the training.
    """

    def __init__(self, group: Group, make_room: Callable[[], object], leave: Leave) -> None:
        self._group, self._make_room, self._leave = group, make_room, leave
        self._store: Any = None
        self._over = threading.Event()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._store is None:
            self.watch(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._store is not None and isinstance(exception, Exception):
            self.raised(exception)

    def watch(self, host: str, port: int) -> None:
        # Here, for not every build of torch has it.
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # A connection of its own: the group's may be held by an operation that waits.
        self._store, self._over = TCPStore(host, port, is_master=False), threading.Event()
        threading.Thread(target=self._look, args=(self._store, self._over), name="alarm", daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        self._store = None

    def raised(self, problem: Exception) -> None:
        """Tells the others what stops this process, and waits for what follows; returns where nothing does."""
        if is_out_of_memory(problem):
            self._store.compare_set(_NOTE, "", json.dumps(_OUT_OF_MEMORY))
        elif isinstance(problem, DarkroomError):
            self._store.compare_set(_NOTE, "", json.dumps(record_of(problem)))
        # Any other error may be that of a connection to a process which has left already.
        self._over.wait(_PATIENCE_SECONDS)

    def _look(self, store: Any, over: threading.Event) -> None:
        try:
            while not store.check([_OUTCOME]):
                if self._group.leads and store.check([_NOTE]):
                    store.set(_OUTCOME, json.dumps(asdict(self._outcome(json.loads(store.get(_NOTE))))))
                elif over.wait(_LOOK_SECONDS):
                    return
            outcome = Outcome(**json.loads(store.get(_OUTCOME)))
            self._make_known(store)
        except RuntimeError:
            # The store went with the process that keeps it.
            return
        self._leave(outcome)

    def _outcome(self, note: dict[str, str]) -> Outcome:
        if note != _OUT_OF_MEMORY:
            return Outcome(error=note)
        try:
            self._make_room()
        except DarkroomError as problem:
            return Outcome(error=record_of(problem))
        return Outcome(port=None if self._group.starts_others else _free_port())

    def _make_known(self, store: Any) -> None:
        """The first process may keep the store, so it leaves last."""
        known = store.add(_KNOWN, 1)
        deadline = time.monotonic() + _PATIENCE_SECONDS / 2
        while self._group.leads and known < self._group.world and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS / 4)
            known = store.add(_KNOWN, 0)


def error_of(outcome: Outcome) -> DarkroomError | None:
    return None if outcome.error is None else error_from_record(outcome.error)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
    return port
