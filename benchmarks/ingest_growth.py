"""What it costs to ingest a folder that grew by 1%, beside reading and hashing the same files once.

    python benchmarks/ingest_growth.py [--data FOLDER] [--rounds 5]

Three ways in turn, each round: `read`, a plain loop of read_bytes and hashlib.sha256 over all files of the grown
folder (the least that finding the new ones by content can cost); `grown`, write_raw on top of the version before;
`first`, write_raw without one. Wall and CPU seconds (all threads), and the bytes written. The folder is a class a
folder; without --data, one of 4,000 random files of 60 kB is made.
"""

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.data.raw.ingest import write_raw
from components.data.sources import Source, find
from components.shared.progress import silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(flags.data or make_data(Path(scratch) / "data"), Path(scratch), flags.rounds)


def make_data(folder: Path, count: int = 4000, size_bytes: int = 60_000) -> Path:
    random = np.random.default_rng(7)
    for number in range(count):
        path = folder / f"class {number % 10}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(size_bytes))
    return folder


def compare(data: Path, scratch: Path, rounds: int) -> None:
    grown = find(str(data))
    fewer = Source([image for number, image in enumerate(grown.images) if number % 100 != 50], grown.task, grown.levels)
    before = scratch / "before"
    write_raw(fewer, before, progress=silent)
    target = scratch / "after"
    ways: dict[str, Callable[[], object]] = {
        "read": lambda: [hashlib.sha256(image.read()).hexdigest() for image in grown.images],
        "grown": lambda: write_raw(find(str(data)), target, previous=before, progress=silent),
        "first": lambda: write_raw(find(str(data)), target, progress=silent),
    }
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    written = {"read": 0, "grown": 0, "first": 0}
    for _ in range(rounds):
        for way, work in ways.items():
            shutil.rmtree(target, ignore_errors=True)
            start, cpu = time.perf_counter(), time.process_time()
            work()
            times[way].append((time.perf_counter() - start, time.process_time() - cpu))
            if way != "read":
                written[way] = sum(file.stat().st_size for file in target.iterdir() if file.stat().st_nlink == 1)
    total = sum(len(image.read()) for image in grown.images)
    print(f"{len(grown.images)} files, {total / 1e6:.0f} MB, {len(grown.images) - len(fewer.images)} of them new")
    for way, measured in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{way:<6} {wall:6.2f} s wall {cpu:6.2f} s CPU {written[way] / 1e6:8.1f} MB written")
    median = {way: statistics.median(wall for wall, _ in measured) for way, measured in times.items()}
    print(f"grown over read {median['grown'] / median['read']:.2f}, over first {median['grown'] / median['first']:.2f}")


if __name__ == "__main__":
    main()
