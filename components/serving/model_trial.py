"""One model file tried in a process of its own that has only what serving needs.

    python -m components.serving.model_trial REQUEST.json

A file that crashes its runtime takes this process with it and no other, memory is this file's alone, and a package that
serving would lack is missed here. REQUEST.json is a `TrialRequest`; the answer goes to its place as a `TrialReport`.
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from components.serving.isolated_process import forget_other_packages, serving_packages
from components.shared.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.serving.onnx_classifier import OnnxClassifier

_BATCHES = (1, 2, 4, 8, 16, 32)
_WARM_UP = 5
_SECONDS_A_BATCH = 0.15


class TrialRequest(Settings):
    model: str
    answer: str
    """Path of the report."""
    provider: str
    latency_runs: int
    """Single images to time."""


class Latency(Settings):
    """Milliseconds for one decoded image."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Speed(Settings):
    latency: Latency
    images_per_second: float
    """At the best batch size."""
    best_batch: int


class TrialReport(Settings):
    sha256: str
    speed: Speed
    peak_mib: float | None
    """Largest resident memory of the process; None where the system doesn't tell."""


def main(request_file: str) -> None:
    forget_other_packages(serving_packages())
    from components.serving.onnx_classifier import OnnxClassifier
    from components.shared.files import write_json

    request = TrialRequest.from_section("trial", json.loads(Path(request_file).read_text(encoding="utf-8")))
    model = OnnxClassifier(Path(request.model), provider=request.provider)
    speed = _speed(model, request.latency_runs)
    report = TrialReport(sha256=model.sha256, speed=speed, peak_mib=_peak_mib())
    write_json(Path(request.answer), report.model_dump())


def _speed(model: "OnnxClassifier", runs: int) -> Speed:
    import numpy as np

    side = model.card.preprocess.image_size_px
    images_BHWC = np.random.default_rng(0).integers(0, 256, (max(_BATCHES), side, side, 3), dtype=np.uint8)
    times = [_seconds(model, images_BHWC[:1]) for _ in range(_WARM_UP + runs)][_WARM_UP:]
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(times, [50, 95, 99]))
    rates = {batch: _rate(model, images_BHWC[:batch]) for batch in _BATCHES}
    best = max(rates, key=lambda batch: rates[batch])
    return Speed(latency=Latency(p50_ms=p50, p95_ms=p95, p99_ms=p99), images_per_second=rates[best], best_batch=best)


def _rate(model: "OnnxClassifier", images_BHWC: "NDArray[np.uint8]") -> float:
    """Images a second in the best of a few runs: what disturbs a run only ever slows it."""
    quickest = _seconds(model, images_BHWC)
    spent = quickest
    while spent < _SECONDS_A_BATCH:
        seconds = _seconds(model, images_BHWC)
        quickest, spent = min(quickest, seconds), spent + seconds
    return len(images_BHWC) / quickest


def _seconds(model: "OnnxClassifier", images_BHWC: "NDArray[np.uint8]") -> float:
    started = time.perf_counter()
    model.logits(images_BHWC)
    return time.perf_counter() - started


def _peak_mib() -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    # Unlike getrusage's maximum, it knows nothing of the process before this program was started in it.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
