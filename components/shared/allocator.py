"""Keeps the memory that a training frees and soon needs again."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # <malloc.h>


def keep_freed_memory() -> bool:
    """Makes this process keep what it frees; returns whether the C library can (glibc only).

    By default glibc maps each large block again and returns it to the system when it is freed, so that every step
    faults in its activations page by page: 12,000 to 60,000 faults and a tenth of a step's time
    (benchmarks/new_memory.py). No result changes. Meant for a process that trains and then ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
