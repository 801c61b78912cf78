"""Several processes learn of a failure of one of them, and leave together; here each is a thread."""

import os
import sys
from collections.abc import Callable

import pytest
from torch.distributed import TCPStore

from components.shared.errors import SettingsError, TrainingDiverged
from components.training import failure_broadcast, process
from components.training.distributed import ProcessGroup
from components.training.failure_broadcast import FailureBroadcast, GroupExit, error_of


@pytest.fixture
def leave_group(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[GroupExit]]:
    """How each of three processes leaves when one of them raises an error."""

    def call(
        problem: Exception, *, rank: int, room: bool = True, spawns_others: bool = False, patience: float = 30
    ) -> list[GroupExit]:
        monkeypatch.setattr(failure_broadcast, "_PATIENCE_SECONDS", patience)
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        left: list[GroupExit] = []

        def make_room() -> None:
            if not room:
                raise SettingsError("lower train.batch_size")

        def leave(group_exit: GroupExit) -> None:
            left.append(group_exit)
            if len(left) == len(group):
                group[rank].stop()

        starting = [spawns_others, False, False]
        group = [
            FailureBroadcast(ProcessGroup(3, number, 3, spawns_others=starting[number]), make_room, leave)
            for number in range(3)
        ]
        for one in group:
            one.connect("127.0.0.1", store.port)
        group[rank].broadcast(problem)
        for one in group:
            one.stop()
        return left

    return call


MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("rank", [0, 2])
def test_all_restart_where_one_has_too_little_memory(leave_group: Callable[..., list[GroupExit]], rank: int) -> None:
    first, *rest = leave_group(MEMORY, rank=rank)
    assert first.error is None
    assert first.port
    assert rest == [first, first], "they meet at one address"


def test_processes_that_the_first_one_started_are_started_by_it_again(
    leave_group: Callable[..., list[GroupExit]],
) -> None:
    assert leave_group(MEMORY, rank=1, spawns_others=True) == [GroupExit()] * 3


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [(MEMORY, "lower train.batch_size"), (TrainingDiverged("loss is nan"), "loss is nan")],
)
def test_all_end_for_the_same_error(
    leave_group: Callable[..., list[GroupExit]], problem: Exception, sentence: str
) -> None:
    exits = leave_group(problem, rank=1, room=False)
    assert [str(error_of(group_exit)) for group_exit in exits] == [sentence] * 3
    assert all(isinstance(error_of(group_exit), SettingsError) for group_exit in exits)


def test_an_error_of_a_connection_ends_nobody_else(leave_group: Callable[..., list[GroupExit]]) -> None:
    assert leave_group(RuntimeError("Connection closed by peer"), rank=1, patience=0.5) == []


@pytest.mark.parametrize(("port", "met"), [(None, "29500"), (4711, "4711")])
def test_a_process_restarts_with_its_command_and_the_variables_it_began_with(
    port: int | None, met: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *what: began.append(what))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "components.training.process", "job.json"])
    monkeypatch.setattr(process, "_kill_children", lambda: None)
    process._restart({"MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True"}, port, is_leader=True)
    ((program, command, environment),) = began
    assert (program, command) == (sys.executable, [sys.executable, "-m", "components.training.process", "job.json"])
    assert environment == {"MASTER_PORT": met, "TORCHELASTIC_USE_AGENT_STORE": str(port is None)}
