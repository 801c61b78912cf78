"""A training's processes count together."""

import subprocess
import sys
import time

import psutil

from components.training.resource_usage import UsageMeter

BUSY = "import time\nwhile time.process_time() < 0.3: pass"
LARGE = "x = bytearray(10**8)\nfor at in range(0, len(x), 1024): x[at] = 1\nprint(flush=True)\ninput()"


def test_processes_that_were_started_count_living_or_ended() -> None:
    meter, started = UsageMeter(), time.monotonic()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    with subprocess.Popen([sys.executable, "-c", LARGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as large:
        assert large.stdout is not None
        large.stdout.readline()
        used, seconds = meter.read(), time.monotonic() - started
        own_gib = psutil.Process().memory_info().rss / 2**30
        large.communicate(b"\n")
    assert used.cpu_percent * seconds / 100 >= 0.25
    assert used.memory_gib > own_gib + 0.09
    assert meter.read() is used, "short epochs don't look each time"
