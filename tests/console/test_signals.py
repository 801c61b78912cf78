"""Ctrl-C: one sentence and exit code 130, whatever a command waits for, and nothing lives on."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from projects import REPOSITORY, clean_environment, new_project

_HEAD = """
import os, signal, sys, threading, time
import flows.console.signals
from flows.console.console import progress
from flows.cli.running import guarded
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have the tests ignore it
def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
"""
_IN_THE_MIDST_OF_A_BAR = """
def work():
    progress()("train", 3, 8)
    ctrl_c()
guarded(work, stopped="train was stopped")
"""
_WAITS_FOREVER = """
flows.console.signals._PATIENCE_SECONDS = 0.3
def work():
    try:
        ctrl_c()
    except KeyboardInterrupt:
        ctrl_c()  # nor does a second one do harm
        threading.Thread(target=time.sleep, args=(60,)).start()
guarded(work, stopped="train was stopped")
"""
_BRINGS_BACK = """
flows.console.signals._PATIENCE_SECONDS = 0.1
def work():
    try:
        ctrl_c()
    finally:
        with flows.console.signals.undisturbed():
            time.sleep(0.5)
            print("brought back")
guarded(work, stopped="train was stopped")
"""
_SERVER = """
import time
from flows.project.project import open_project
from flows.servers.ephemeral import prepare_prefect
prepare_prefect(open_project())
print("started", flush=True)
time.sleep(60)
"""


def in_terminal(code: str) -> tuple[int, str]:
    """Exit code and what the terminal showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", _HEAD + code]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=clean_environment(), stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass  # Linux's way to say that nobody has the other end any more
    os.close(ours)
    return process.wait(20), shown.decode()


def test_the_bar_goes_and_the_cursor_comes_back_before_the_last_sentence() -> None:
    code, shown = in_terminal(_IN_THE_MIDST_OF_A_BAR)
    assert code == 130
    assert "\x1b[?25l" in shown
    bar, sentence = shown.rsplit("\x1b[?25h", 1)
    assert "train" in bar
    assert "darkroom: train was stopped" in sentence
    assert "Traceback" not in shown


def test_an_interrupt_that_got_lost_ends_the_command_all_the_same() -> None:
    started = time.monotonic()
    code, shown = in_terminal(_WAITS_FOREVER)
    assert code == 130
    assert shown.splitlines() == ["darkroom: train was stopped"]
    assert time.monotonic() - started < 15


def test_what_is_brought_back_is_not_cut_off() -> None:
    code, shown = in_terminal(_BRINGS_BACK)
    assert code == 130
    assert sorted(shown.splitlines()) == ["brought back", "darkroom: train was stopped"]


def test_the_server_of_a_command_is_out_of_reach_of_ctrl_c_and_ends_with_a_killed_command(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "project")
    command = [sys.executable, "-c", _SERVER]
    process = subprocess.Popen(
        command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    assert {os.getsid(child.pid) for child in children}.isdisjoint({os.getsid(process.pid)})
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "the server outlived its command"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_and_a_polite_kill_are_like_ctrl_c(number: signal.Signals) -> None:
    code, shown = in_terminal(_IN_THE_MIDST_OF_A_BAR.replace("ctrl_c()", f"os.kill(os.getpid(), {number.value})"))
    assert code == 130
    assert "darkroom: train was stopped" in shown
