"""A process that trains keeps the memory that it frees."""

import subprocess
import sys

PAGES_OF_ONE = 40 * 1024**2 // 4096
ROUNDS = 10
SCRIPT = f"""
import resource, sys
import numpy as np
from components.shared.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def touch():
    np.ones({PAGES_OF_ONE} * 4096, np.uint8)

touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_freed_block_is_used_again_without_new_pages() -> None:
    assert page_faults("keep") < PAGES_OF_ONE / 10
    # What it saves: without it each round has to map all its pages again (huge pages make that fewer).
    assert page_faults("as ever") > 2 * page_faults("keep")
