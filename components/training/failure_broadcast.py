"""Failure broadcast: what stops one of several processes that train together stops all, and none waits for the others.

The failing process leaves a note in the key-value store of the group. The leader decides what follows, and all leave
this attempt at the same time, each from a thread of its own: its main thread may wait forever for an all-reduce that
the failed process never joins.
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
from components.training.distributed import ProcessGroup

_FAILURE, _EXIT, _RECEIVED = "darkroom/failure", "darkroom/exit", "darkroom/received"
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 10.0
"""Time that a failing process waits for the others, which may be gone already."""
_OUT_OF_MEMORY = {"type": "OutOfMemory", "message": ""}


@dataclass(frozen=True)
class GroupExit:
    """How all processes leave an attempt: with an error, or for a restart."""

    error: dict[str, str] | None = None
    """The error as a record; None: they restart."""
    port: int | None = None
    """Port of the leader's host at which they meet after a restart; None: the leader starts the others."""


Leave = Callable[[GroupExit], None]
"""Ends or restarts this process; doesn't return."""


class FailureBroadcast(Callback):
    """Broadcasts failures of one process of a group, and receives those of the others.

    After an out-of-memory error, the leader calls `make_room`: it prepares a smaller attempt, or raises the
    DarkroomError that ends the training.
    """

    def __init__(self, group: ProcessGroup, make_room: Callable[[], object], leave: Leave) -> None:
        self._group, self._make_room, self._leave = group, make_room, leave
        self._store: Any = None
        self._stopped = threading.Event()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._store is None:
            self.connect(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._store is not None and isinstance(exception, Exception):
            self.broadcast(exception)

    def connect(self, host: str, port: int) -> None:
        # Imported here because not every build of torch has it.
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        # A connection of its own: the group's may be blocked by a waiting operation.
        self._store, self._stopped = TCPStore(host, port, is_master=False), threading.Event()
        threading.Thread(
            target=self._poll, args=(self._store, self._stopped), name="failure broadcast", daemon=True
        ).start()

    def stop(self) -> None:
        self._stopped.set()
        self._store = None

    def broadcast(self, problem: Exception) -> None:
        """Reports what stops this process, and waits for the leader's decision; returns where none comes."""
        if is_out_of_memory(problem):
            self._store.compare_set(_FAILURE, "", json.dumps(_OUT_OF_MEMORY))
        elif isinstance(problem, DarkroomError):
            self._store.compare_set(_FAILURE, "", json.dumps(record_of(problem)))
        # Any other error may stem from the connection to a process that has left already.
        self._stopped.wait(_PATIENCE_SECONDS)

    def _poll(self, store: Any, stopped: threading.Event) -> None:
        try:
            while not store.check([_EXIT]):
                if self._group.is_leader and store.check([_FAILURE]):
                    store.set(_EXIT, json.dumps(asdict(self._group_exit(json.loads(store.get(_FAILURE))))))
                elif stopped.wait(_POLL_SECONDS):
                    return
            group_exit = GroupExit(**json.loads(store.get(_EXIT)))
            self._acknowledge(store)
        except RuntimeError:
            # The store ended with the process that hosts it.
            return
        self._leave(group_exit)

    def _group_exit(self, failure: dict[str, str]) -> GroupExit:
        if failure != _OUT_OF_MEMORY:
            return GroupExit(error=failure)
        try:
            self._make_room()
        except DarkroomError as problem:
            return GroupExit(error=record_of(problem))
        return GroupExit(port=None if self._group.spawns_others else _free_port())

    def _acknowledge(self, store: Any) -> None:
        """Waits, in the leader, until all have received the decision: the leader may host the store."""
        received = store.add(_RECEIVED, 1)
        deadline = time.monotonic() + _PATIENCE_SECONDS / 2
        while self._group.is_leader and received < self._group.world and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 4)
            received = store.add(_RECEIVED, 0)


def error_of(group_exit: GroupExit) -> DarkroomError | None:
    return None if group_exit.error is None else error_from_record(group_exit.error)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port
