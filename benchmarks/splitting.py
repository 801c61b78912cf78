"""Splitting a manifest: wall time, CPU time, peak memory and stratification error, beside StratifiedGroupKFold.

    python benchmarks/splitting.py [--rows 1000000] [--peer-rows 40000] [--rounds 5]

The manifest is made here: unevenly common classes, a third of the images in groups of 2 to 9, exact copies and near
pairs, three ingests. First all of it, from the table in memory to the proof: union-find, assignment, audit, digest,
the written table (the search for near pairs is a benchmark of its own). Then, in turns, only the assignment, against
scikit-learn's StratifiedGroupKFold with 7 folds, of which 5 are train, one val and one test. The peer is handed the
finished clusters as groups; it knows neither duplicates nor growth. Each measurement is a process of its own, so that
its peak memory is its own, with one thread.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_FRACTIONS = {"train": 5 / 7, "val": 1 / 7, "test": 1 / 7}
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS"), "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images in the whole measurement")
    parser.add_argument("--peer-rows", type=int, default=40_000, help="images in the comparison")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison, in turns")
    parser.add_argument("--measure", choices=["whole", "ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--manifest", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.measure:
        print(json.dumps(measure(flags.measure, flags.manifest)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report_whole(Path(folder), flags.rows)
        report_comparison(Path(folder), flags.peer_rows, flags.rounds)


def report_whole(folder: Path, rows: int) -> None:
    write_manifest(folder, rows, ingest_ids=3)
    found = in_own_process("whole", folder)
    print(
        f"{rows:,} rows, three ingests: {found['wall_s']:.1f} s wall (aim 60), {found['cpu_s']:.1f} s CPU, "
        f"peak {found['peak_gib']:.2f} GiB (aim 4) of which {found['base_gib']:.2f} GiB imports; "
        f"{found['leaks']} pairs across splits, {found['excluded']} excluded"
    )


def report_comparison(folder: Path, rows: int, rounds: int) -> None:
    write_manifest(folder, rows, ingest_ids=1)
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for name, taken in found.items():
            taken.append(in_own_process(name, folder))
    middle = {
        name: {key: statistics.median(one[key] for one in taken) for key in taken[0]} for name, taken in found.items()
    }
    for name, title in (("ours", "split_images"), ("peer", "StratifiedGroupKFold")):
        one = middle[name]
        print(
            f"{rows:,} rows, {title}: {one['wall_s']:.2f} s wall, {one['cpu_s']:.2f} s CPU, peak {one['peak_gib']:.2f} "
            f"GiB; largest deviation of a class's share {100 * one['deviation']:.3f} points, of those with at least "
            f"1,000 images {100 * one['deviation_large']:.3f}"
        )
    print(f"CPU, peer over ours: {middle['peer']['cpu_s'] / middle['ours']['cpu_s']:.1f} (median of {rounds} rounds)")


def in_own_process(what: str, folder: Path) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, __file__, "--measure", what, "--manifest", str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | _ONE_THREAD,
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def write_manifest(folder: Path, rows: int, *, ingest_ids: int) -> None:
    random = np.random.default_rng(7)
    content = np.where(random.random(rows) < 0.03, random.integers(0, rows, rows), np.arange(rows))
    label = np.minimum(random.zipf(1.2, rows), 50 + random.integers(0, 50, rows))
    group = np.cumsum(random.random(rows) < 0.2)
    label = np.where(random.random(rows) < 0.9, label[np.searchsorted(group, group)], label)
    grouped = (random.random(group.max() + 1) < 0.33)[group]
    table = pa.table(
        {
            "path": [f"{number // 1000:04d}/{number:07d}.jpg" for number in range(rows)],
            "label": [f"class {number:03d}" for number in label.tolist()],
            "group": [f"g{number}" if kept else None for number, kept in zip(group.tolist(), grouped, strict=True)],
            "sha256": [hashlib.sha256(str(number).encode()).hexdigest() for number in content.tolist()],
            "ingest_id": np.minimum(random.integers(0, 100, rows) // 98, 1) * random.integers(1, 3, rows)
            if ingest_ids > 1
            else np.zeros(rows, np.int64),
        }
    )
    near = np.sort(random.integers(0, rows, (rows // 40, 2)), axis=1)
    pq.write_table(table, folder / "images.parquet")
    np.save(folder / "near.npy", near[near[:, 0] != near[:, 1]])


def measure(what: str, folder: Path) -> dict[str, Any]:
    pa.set_cpu_count(1)
    work = {"whole": whole, "ours": ours, "peer": peer}[what](folder)
    next(work)  # imports and reading
    base = peak_gib()
    wall, cpu = time.perf_counter(), time.process_time()
    next(work)
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    return spent | {"peak_gib": peak_gib(), "base_gib": base} | next(work)


def peak_gib() -> float:
    """Of this process alone: getrusage's peak would start from that of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / (1 << 20)


def whole(folder: Path) -> Any:
    from components.data.duplicates.finder import DuplicatePairs
    from components.data.split.leak_proof import audit, find_leaks
    from components.data.split.splitter import split_images
    from components.data.split.strata import SplitImages
    from components.shared.parquet import write_table

    yield
    table = pq.read_table(folder / "images.parquet")
    near = np.load(folder / "near.npy")
    result = split_images(SplitImages.from_table(table), near, settings())
    split = pa.array(result.splits).take(pa.array(result.split_N))
    table = table.append_column("split", split).append_column("cluster", pa.array(result.cluster_N))
    leaks = find_leaks(table, near)
    pairs = DuplicatePairs(exact=np.empty((0, 2), np.int64), near=near, embedding=None, num_cut=0)
    proof = audit(table, pairs, leaks, excluded=result.excluded, settings=settings().model_dump())
    write_table(folder / "split.parquet", table)
    yield
    yield {"leaks": proof.leaks.num_across, "excluded": len(proof.excluded)}


def ours(folder: Path) -> Any:
    from components.data.split.splitter import split_images
    from components.data.split.strata import SplitImages

    table, near = pq.read_table(folder / "images.parquet"), np.load(folder / "near.npy")
    yield
    images = SplitImages.from_table(table)
    result = split_images(images, near, settings())
    yield
    yield deviations(images.label.code_N, result.split_N)


def peer(folder: Path) -> Any:
    from sklearn.model_selection import StratifiedGroupKFold

    from components.data.split.splitter import split_images
    from components.data.split.strata import SplitImages

    images = SplitImages.from_table(pq.read_table(folder / "images.parquet"))
    cluster_N = split_images(images, np.load(folder / "near.npy"), settings()).cluster_N
    label_N = images.label.code_N
    yield
    folds = StratifiedGroupKFold(n_splits=7, shuffle=True, random_state=7).split(label_N, label_N, cluster_N)
    split_N = np.zeros(len(label_N), np.int64)
    for split, (_, held_out) in zip((1, 2), folds, strict=False):
        split_N[held_out] = split
    yield
    yield deviations(label_N, split_N)


def settings() -> Any:
    from components.data.split.splitter import SplitSettings

    return SplitSettings.from_section(
        "split",
        {
            "method": "random",
            "fractions": _FRACTIONS,
            "folds": 0,
            "seed": 7,
            "given": "repair",
            "duplicates": {"max_bits": 7, "min_correlation": 0.985},
        },
    )


def deviations(label_N: np.ndarray, split_N: np.ndarray) -> dict[str, float]:
    """Largest distance of a class's fraction of a split from the split's fraction, over all and over large classes."""
    count = np.zeros((label_N.max() + 1, 3))
    np.add.at(count, (label_N[split_N < 3], split_N[split_N < 3]), 1)
    total = count.sum(axis=1)
    off = np.abs(count / total[:, None] - np.array(list(_FRACTIONS.values()))).max(axis=1)
    return {"deviation": float(off.max()), "deviation_large": float(off[total >= 1000].max())}


if __name__ == "__main__":
    main()
