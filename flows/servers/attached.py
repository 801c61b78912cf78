"""`python -m flows.servers.attached COMMAND…` runs the command for as long as standard input stays open.

Whoever starts it holds the other end. When that end is closed, or its holder dies in whatever way, the command is asked
to stop, and everything that it started is killed if it doesn't. So no server outlives the one who started it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

import psutil

STOP_SECONDS = 15.0
"""Time that a command has to stop before it is killed."""
_LOOK_EVERY_SECONDS = 0.2
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main() -> int:
    _adopt_orphans()
    # Only the end of the pipe stops us: a signal is for the one who holds it. (An ignored signal would stay ignored in
    # the command, a handled one doesn't.)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    released = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(released,), daemon=True).start()
    while command.poll() is None and not released.wait(_LOOK_EVERY_SECONDS):
        pass
    command.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(STOP_SECONDS)
    _kill_all()
    exit_code = command.wait()
    return exit_code if exit_code >= 0 else 128 - exit_code


def _wait_for_end_of_input(released: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    released.set()


def _kill_all() -> None:
    # Again while there are any: one that was killed may have started another a moment before.
    for _ in range(5):
        left = psutil.Process().children(recursive=True)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if not left:
            return
        psutil.wait_procs(left, timeout=1.0)


def _adopt_orphans() -> None:
    """Where the kernel can (Linux), what the command's children leave behind becomes ours, so that we find it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
