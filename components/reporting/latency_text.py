"""How a measured latency is told: one that swung while it was measured isn't told as if it were sure."""

_UNSTEADY = 1.5
"""Times the median: a 95th percentile above it says that other work, or a changing clock, was measured too."""


def is_unsteady(p50_ms: float | None, p95_ms: float | None) -> bool:
    """Whether the measurement says more about that moment than about the file; False where it isn't known."""
    return p50_ms is not None and p95_ms is not None and p95_ms > _UNSTEADY * p50_ms


def latency_text(p50_ms: float | None, p95_ms: float | None) -> str:
    """`0.16 ms (95% within 0.18)`; with a word of warning where it was unsteady."""
    if p50_ms is None:
        return "unknown"
    if p95_ms is None:
        return f"{p50_ms:.2f} ms"
    unsteady = ", unsteady: the machine was busy" if is_unsteady(p50_ms, p95_ms) else ""
    return f"{p50_ms:.2f} ms (95% within {p95_ms:.2f}{unsteady})"
