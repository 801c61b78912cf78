"""A measured latency as text, with a warning where the measurement is unreliable."""

_UNSTEADY = 1.5
"""A 95th percentile above this multiple of the median means that other work, or a changing clock, was measured too."""


def is_unsteady(p50_ms: float | None, p95_ms: float | None) -> bool:
    """Whether the machine was too busy for the measurement to describe the file; False where it is unknown."""
    return p50_ms is not None and p95_ms is not None and p95_ms > _UNSTEADY * p50_ms


def latency_text(p50_ms: float | None, p95_ms: float | None) -> str:
    """`0.16 ms (95% within 0.18)`; with a warning where it is unreliable."""
    if p50_ms is None:
        return "unknown"
    if p95_ms is None:
        return f"{p50_ms:.2f} ms"
    warning = ", unreliable: the machine was busy" if is_unsteady(p50_ms, p95_ms) else ""
    return f"{p50_ms:.2f} ms (95% within {p95_ms:.2f}{warning})"
