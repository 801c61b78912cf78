"""Measuring images, beside a full decode of the same files with OpenCV and Pillow's verify-and-load loop.

    python benchmarks/probing.py [--images FOLDER] [--limit 1500] [--rounds 5] [--whole 10000]
        [--growth 10000] [--rows 1000000]

One thread each (CPU time beside wall), interleaved, from files in the page cache. Then growth: in each round a pass
over 99% of the files with an empty cache, and a second with the other 1%, from the manifest on disk to the table of
measurements. Between the two the whole pass as the stage runs it, on all cores, beside bare decoding on as many.
--limit 0, --whole 0 and --growth 0 skip them. With --rows, the validation rules on a made table of that many rows
instead.
Without --images, 400 JPEG files of 400 × 500 px are made.
"""

import argparse
import functools
import hashlib
import io
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image
from side_by_side import compare, machine, table

from components.data.images.measurement import measure_without_hashes, with_hashes
from components.data.raw.dataset import MANIFEST, SCHEMA, read_manifest_table
from components.data.raw.measurement_pass import measure_all
from components.shared.parquet import write_table
from components.shared.progress import silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--limit", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", type=int, default=10_000, help="files of the whole pass")
    parser.add_argument("--growth", type=int, default=10_000, help="files of the grown set")
    parser.add_argument("--rows", type=int)
    flags = parser.parse_args()
    if flags.rows:
        _suite(flags.rows)
        return
    with tempfile.TemporaryDirectory() as name:
        files = sorted((flags.images or _made(Path(name))).rglob("*.jp*g"))
        if flags.limit:
            _speed(_spread(files, flags.limit), flags.rounds)
        if flags.whole:
            _whole_pass(_spread(files, flags.whole), Path(name), flags.rounds)
        if flags.growth:
            _growth(_spread(files, flags.growth), Path(name), flags.rounds)
    print(machine("opencv-python-headless", "pillow", "simplejpeg"))


def _spread(files: list[Path], count: int) -> list[Path]:
    return files[:: max(1, len(files) // count)][:count]


def _speed(files: list[Path], rounds: int) -> None:
    cv2.setNumThreads(1)
    # No side keeps its pictures: memory that was never used before would cost more than decoding.
    sides = {
        "opencv decode": lambda: deque(map(_read_and_decoded, files), maxlen=0),
        "pillow verify and load": lambda: deque(map(_pillow, files), maxlen=0),
        "measure (with SHA-256)": lambda: _measure_files(files),
    }
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files) / len(files) / 1024:.1f} KiB each")
    timings = compare(sides, rounds=rounds)
    for peer in list(sides)[:2]:
        print(table(timings, per_round=len(files), unit="images/s", peer=peer))


def _measure_files(files: list[Path]) -> None:
    measurements = []
    for file in files:
        content = file.read_bytes()
        hashlib.sha256(content).hexdigest()
        measurements.append(measure_without_hashes(content, max_megapixels=100))
    with_hashes(measurements)


def _pillow(file: Path) -> None:
    with Image.open(file) as image:
        image.verify()
    with Image.open(file) as image:
        image.load()


def _whole_pass(files: list[Path], folder: Path, rounds: int) -> None:
    """`measure_all` as the stage calls it, with an empty cache, beside bare decoding on as many cores."""
    raw = folder / "whole"
    write_table(raw / MANIFEST, _as_raw(files, raw))
    cores = len(os.sched_getaffinity(0))
    cv2.setNumThreads(1)
    contents = [file.read_bytes() for file in files]

    def on_all_cores(decode: Callable[[Any], object], items: Sequence[object]) -> None:
        with ThreadPoolExecutor(cores) as threads:
            deque(threads.map(decode, items), maxlen=0)

    stores = itertools.count()
    sides = {
        "opencv, from files": lambda: on_all_cores(_read_and_decoded, files),
        "opencv, from memory": lambda: on_all_cores(_decoded, contents),
        "the pass": lambda: _measure(raw, folder / f"store-{next(stores)}"),
    }
    print(f"the whole pass over {len(files)} files, {cores} cores")
    timings = compare(sides, rounds=rounds)
    for peer in list(sides)[:2]:
        print(
            table(
                {name: timings[name] for name in (peer, "the pass")}, per_round=len(files), unit="images/s", peer=peer
            )
        )


def _read_and_decoded(file: Path) -> None:
    _decoded(file.read_bytes())


def _decoded(content: bytes) -> None:
    cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def _as_raw(files: list[Path], folder: Path) -> pa.Table:
    """One shard, as ingesting writes it, and its manifest."""
    rows, offset, shard = [], 0, "images-00000.tar"
    folder.mkdir()
    with (folder / shard).open("wb") as stream:
        for number, file in enumerate(files):
            content = file.read_bytes()
            values = {"path": f"{number}.jpg", "label": "a", "sha256": hashlib.sha256(content).hexdigest()}
            rows.append(values | {"size_bytes": len(content), "shard": shard, "offset": offset})
            offset += stream.write(content)
    return pa.Table.from_pylist(rows, SCHEMA)


def _growth(files: list[Path], folder: Path, rounds: int) -> None:
    grown = _as_raw(files, folder / "grown")
    old = grown.slice(0, len(files) - max(1, len(files) // 100))
    (folder / "old").mkdir()
    os.link(folder / "grown" / "images-00000.tar", folder / "old" / "images-00000.tar")
    for name, rows in (("old", old), ("grown", grown)):
        write_table(folder / name / MANIFEST, rows)
    _measure(folder / "old", None)  # imports, and the files into the page cache
    passes = []
    for number in range(rounds):
        store = folder / str(number)
        passes.append([_timed(functools.partial(_measure, folder / name, store)) for name in ("old", "grown")])
    print(f"growth: {len(old)} files, then {len(grown) - len(old)} more")
    for place, clock in enumerate(("wall", "CPU, children included")):
        first, second = ([both[which][place] for both in passes] for which in (0, 1))
        ratios = sorted(other / one for one, other in zip(first, second, strict=True))
        print(
            f"{clock}: first pass {statistics.median(first):.3f} s, second {statistics.median(second):.3f} s: "
            f"{statistics.median(ratios):.3f} of it ({ratios[0]:.3f} to {ratios[-1]:.3f} in {rounds} rounds)"
        )


def _measure(raw: Path, store: Path | None) -> None:
    measure_all(read_manifest_table(raw), raw, max_megapixels=100, code="", cache=store, progress=silent)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock, and of all cores of this process and the children that it waited for."""
    began, began_cpu = time.perf_counter(), _cpu_seconds()
    work()
    return time.perf_counter() - began, _cpu_seconds() - began_cpu


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _suite(count: int) -> None:
    import pandas as pd

    from components.data.quality.profile import profile_of
    from components.data.quality.rule_checks import check_quality
    from components.data.quality.rules import QualitySettings

    random = np.random.default_rng(0)
    columns = ("aspect", "brightness", "contrast", "sharpness", "entropy_bits", "colourfulness")
    table = pd.DataFrame({name: random.gamma(5, 0.1, count) for name in columns})
    table["path"] = [f"{number:08d}.jpg" for number in range(count)]
    table["sha256"] = [f"{number:064x}" for number in range(count)]
    table["label"] = random.integers(0, 100, count).astype(str)
    table["width_px"], table["height_px"] = random.integers(100, 900, (2, count))
    table["mode"], table["format"] = "RGB", "JPEG"
    rule = {"at_least": 0.001, "level": "warn"}
    names = ("images", "images_per_class", "imbalance", "decodable_fraction", "conflicting_labels", "side_px", *columns)
    rules = dict.fromkeys(names, rule)
    rules |= {name: {"at_most": 0.25, "level": "warn"} for name in ("drift", "class_drift")}
    settings = QualitySettings.from_section("validate", rules)
    baseline = profile_of(table)
    seconds, _ = _timed(lambda: check_quality(table, quarantined=[], settings=settings, baseline=baseline))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"suite over {count} rows: {seconds:.1f} s with the import of Great Expectations, peak {peak:.2f} GiB")


def _made(folder: Path) -> Path:
    (folder / "made").mkdir()
    for number in range(400):
        small = np.random.default_rng(number).integers(0, 256, (20, 16, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize((400, 500), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        (folder / "made" / f"{number}.jpg").write_bytes(stream.getvalue())
    return folder / "made"


if __name__ == "__main__":
    main()
