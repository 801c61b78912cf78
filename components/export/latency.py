"""How fast a model answers on this machine."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.serving.classifier import OnnxClassifier

_WARM_UP = 10


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one decoded image."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


def measure_latency(model: OnnxClassifier, square_HWC: NDArray[np.uint8], *, runs: int) -> Latency:
    image_BHWC = square_HWC[None]
    for _ in range(_WARM_UP):
        model.logits(image_BHWC)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        model.logits(image_BHWC)
        times.append(1000 * (time.perf_counter() - started))
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return Latency(float(p50), float(p95), float(p99))
