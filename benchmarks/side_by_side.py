"""Common to all benchmarks: sides that take turns, the machine's facts, and a refusal to time on a busy one.

One that is timed by the CPU seconds of one thread may share the machine, and does not refuse.

timings = compare({"ours": ours, "peer": peer}, rounds=5)
print(table(timings, per_round=num_images, unit="images/s", peer="peer"))
print(machine("torch", "torchvision"))
"""

import gc
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_BUSY_FRACTION = 0.25
_ALLOW_BUSY = "DARKROOM_BENCH_BUSY"


@dataclass
class Timing:
    """Seconds of each round."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """User and system time of this process and of the children that it waited for."""


def compare(sides: Mapping[str, Callable[[], object]], *, rounds: int = 5, warm: bool = True) -> dict[str, Timing]:
    """Times the sides in turns (A B A B …); each runs once untimed before, unless `warm` is false."""
    if warm:
        for run in sides.values():
            run()
    timings = {name: Timing() for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            gc.collect()
            cpu, wall = _cpu_seconds(), time.perf_counter()
            run()
            timings[name].wall_s.append(time.perf_counter() - wall)
            timings[name].cpu_s.append(_cpu_seconds() - cpu)
    return timings


def table(timings: Mapping[str, Timing], *, per_round: int, unit: str, peer: str) -> str:
    """Rates of each side by median round, and the median of the rounds' own ratios to the peer (lowest to highest)."""
    rows = [f"| | {unit} (wall) | {unit} (CPU) | of {peer}, wall | of {peer}, CPU |", "|---|---|---|---|---|"]
    for name, timing in timings.items():
        rates = [f"{per_round / median(seconds):,.1f}" for seconds in (timing.wall_s, timing.cpu_s)]
        ratios = [
            ratio_range(timings[peer].wall_s, timing.wall_s) if name != peer else "1",
            ratio_range(timings[peer].cpu_s, timing.cpu_s) if name != peer else "1",
        ]
        rows.append(f"| {name} | {' | '.join(rates + ratios)} |")
    return "\n".join(rows)


@dataclass(frozen=True)
class Usage:
    """What a command used."""

    seconds: float
    peak_mib: float
    """Peak memory (RSS) of the largest of its processes."""
    exit_code: int


_LAUNCHER = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, code)
"""


def usage(command: list[str], *, folder: Path | None = None, env: Mapping[str, str] | None = None) -> Usage:
    """Runs the command, whose output is discarded.

    A small process starts it: a child's peak is at least the memory that its parent had when it was started.
    """
    launched = [sys.executable, "-I", "-c", _LAUNCHER, *command]
    printed = subprocess.run(launched, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
    seconds, peak_mib, code = printed.split()
    return Usage(float(seconds), float(peak_mib), int(code))


def ratio(peer_s: list[float], ours_s: list[float]) -> float:
    """How many times as fast as the peer: the median over the rounds."""
    return median(theirs / mine for theirs, mine in zip(peer_s, ours_s, strict=True))


def ratio_range(peer_s: list[float], ours_s: list[float]) -> str:
    """`ratio`, with the lowest and highest of the rounds."""
    each = sorted(theirs / mine for theirs, mine in zip(peer_s, ours_s, strict=True))
    return f"{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"


def machine(*packages: str) -> str:
    """One line of facts that a figure depends on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    features = ", ".join(name for name in _FEATURES if name in _flags()) or "features unknown"
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{_processor()}, {cores} cores ({features}), OMP_NUM_THREADS {threads}, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}{', ' + versions if versions else ''}"
    )


def refuse_busy_machine() -> None:
    """Ends the program where others keep the cores busy, for wall times would be theirs too."""
    busy = _busy_fraction()
    if busy > _BUSY_FRACTION and not os.environ.get(_ALLOW_BUSY):
        sys.exit(f"others use {busy:.0%} of this machine's processors; wait, or set {_ALLOW_BUSY}=1 and say so")


def needs_peer(package: str) -> None:
    """Ends the program, without failure, where the peer isn't installed: none of ours needs it."""
    if find_spec(package) is None:
        print(f"left out: {package} is not installed; make an environment of its own that has it beside Darkroom's")
        sys.exit()


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _busy_fraction() -> float:
    """Fraction of all cores' time that was used during one second in which this process slept."""
    before = _ticks()
    time.sleep(1)
    busy, total = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
    return busy / total if total else 0.0


def _ticks() -> tuple[int, int]:
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0, 0
    # Niced processes too: they give way, yet take caches and memory.
    user, niced, system, idle, waiting, *_ = map(int, stat.read_text().splitlines()[0].split()[1:])
    busy = user + niced + system
    return busy, busy + idle + waiting


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def _flags() -> set[str]:
    return set(next((line for line in _cpuinfo() if line.startswith("flags")), "").split())


def _processor() -> str:
    named = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
