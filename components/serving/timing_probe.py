"""Latency, throughput and memory of a model file, measured in a process that can import only what serving needs.

    python -m components.serving.timing_probe REQUEST.json

A file that crashes its runtime ends this process and no other, the memory is that of this file alone, and a package
that serving would lack is missing here. REQUEST.json is a `ProbeRequest`; the result is written as a `ProbeReport`.
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from components.serving.isolated_process import block_other_imports, serving_packages
from components.shared.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.serving.onnx_classifier import OnnxClassifier

_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_WARM_UP_RUNS = 5
_SECONDS_PER_BATCH_SIZE = 0.15


class ProbeRequest(Settings):
    model: str
    """Path of the ONNX file."""
    report: str
    """Path to write the report to."""
    provider: str
    latency_runs: int
    """Number of single images to time."""


class Timing(Settings):
    """Percentiles of the time for one decoded image."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Speed(Settings):
    latency: Timing
    images_per_second: float
    """Throughput at the best batch size."""
    best_batch: int


class ProbeReport(Settings):
    sha256: str
    """Digest of the ONNX file."""
    speed: Speed
    peak_mib: float | None
    """Peak memory (RSS) of the process; None if the system doesn't report it."""


def main(request_file: str) -> None:
    block_other_imports(serving_packages())
    from components.serving.onnx_classifier import OnnxClassifier
    from components.shared.files import write_json

    request = ProbeRequest.from_section("probe", json.loads(Path(request_file).read_text(encoding="utf-8")))
    model = OnnxClassifier(Path(request.model), provider=request.provider)
    speed = _speed(model, request.latency_runs)
    report = ProbeReport(sha256=model.sha256, speed=speed, peak_mib=_peak_mib())
    write_json(Path(request.report), report.model_dump())


def _speed(model: "OnnxClassifier", runs: int) -> Speed:
    import numpy as np

    side = model.card.preprocess.image_size_px
    images_BHWC = np.random.default_rng(0).integers(0, 256, (max(_BATCH_SIZES), side, side, 3), dtype=np.uint8)
    times = [_seconds(model, images_BHWC[:1]) for _ in range(_WARM_UP_RUNS + runs)][_WARM_UP_RUNS:]
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(times, [50, 95, 99]))
    rates = {batch: _rate(model, images_BHWC[:batch]) for batch in _BATCH_SIZES}
    best = max(rates, key=lambda batch: rates[batch])
    return Speed(latency=Timing(p50_ms=p50, p95_ms=p95, p99_ms=p99), images_per_second=rates[best], best_batch=best)


def _rate(model: "OnnxClassifier", images_BHWC: "NDArray[np.uint8]") -> float:
    """Images per second in the fastest of a few runs: other load can only slow a run down."""
    fastest = _seconds(model, images_BHWC)
    total = fastest
    while total < _SECONDS_PER_BATCH_SIZE:
        seconds = _seconds(model, images_BHWC)
        fastest, total = min(fastest, seconds), total + seconds
    return len(images_BHWC) / fastest


def _seconds(model: "OnnxClassifier", images_BHWC: "NDArray[np.uint8]") -> float:
    started = time.perf_counter()
    model.logits(images_BHWC)
    return time.perf_counter() - started


def _peak_mib() -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    # Unlike getrusage's maximum, it excludes the parent process that was forked.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
