"""Line charts as plain geometry for a template: they follow the page's colours and stay sharp in print."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

WIDTH, HEIGHT = 460.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 20.0, 38.0
_TICKS = 5


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]
    """Such as epoch and value; points that are not finite are left out."""
    note: str | None = None
    """For the legend; None: the last value."""


@dataclass(frozen=True)
class Tick:
    place: float
    """In the chart's units, from the left or from the top."""
    label: str


@dataclass(frozen=True)
class DrawnLine:
    name: str
    path: str
    """`x,y x,y …` in the chart's units."""
    dots: Sequence[tuple[float, float]]
    note: str
    """For the legend; may be empty."""


@dataclass(frozen=True)
class Chart:
    title: str
    summary: str
    """Text alternative: what the chart shows."""
    lines: Sequence[DrawnLine]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    x_label: str
    mark: Tick | None
    """A vertical line, such as where fine-tuning begins."""
    width: float = WIDTH
    height: float = HEIGHT
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM


def draw_chart(
    title: str,
    lines: Sequence[Line],
    *,
    ceiling: float = math.inf,
    x_label: str = "epoch",
    mark: tuple[float, str] | None = None,
) -> Chart | None:
    """None where no line has a finite point; no value can be above the ceiling, so the scale ends there."""
    finite = [replace(line, points=[point for point in line.points if math.isfinite(point[1])]) for line in lines]
    finite = [line for line in finite if line.points]
    if not finite:
        return None
    x_values = [x for line in finite for x, _ in line.points]
    y_ticks = [tick for tick in _nice_ticks([y for line in finite for _, y in line.points]) if tick <= ceiling]
    x_range = _padded(min(x_values), max(x_values))
    y_range = (y_ticks[0], y_ticks[-1])
    return Chart(
        title=title,
        summary="; ".join(_summary(line, x_label) for line in finite),
        lines=[_drawn(line, x_range, y_range) for line in finite],
        x_ticks=[Tick(_across(x, x_range), f"{x:g}") for x in _x_ticks(x_values)],
        y_ticks=[Tick(_down(y, y_range), f"{y:.6g}") for y in y_ticks],
        x_label=x_label,
        mark=Tick(_across(mark[0], x_range), mark[1]) if mark is not None else None,
    )


def _summary(line: Line, x_label: str) -> str:
    (first_x, first_y), (last_x, last_y) = line.points[0], line.points[-1]
    return f"{line.name} from {first_y:.4f} at {x_label} {first_x:.4g} to {last_y:.4f} at {x_label} {last_x:.4g}"


def _drawn(line: Line, x_range: tuple[float, float], y_range: tuple[float, float]) -> DrawnLine:
    dots = [(_across(x, x_range), _down(y, y_range)) for x, y in line.points]
    note = f"final {line.points[-1][1]:.4f}" if line.note is None else line.note
    return DrawnLine(line.name, " ".join(f"{x:.1f},{y:.1f}" for x, y in dots), dots, note)


def _across(x: float, x_range: tuple[float, float]) -> float:
    low, high = x_range
    return round(_LEFT + (x - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 1)


def _down(y: float, y_range: tuple[float, float]) -> float:
    low, high = y_range
    return round(HEIGHT - _BOTTOM - (y - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)


def _padded(low: float, high: float) -> tuple[float, float]:
    return (low - 0.5, high + 0.5) if low == high else (low, high)


def _x_ticks(values: Sequence[float]) -> list[float]:
    """Whole numbers; tenths between 0 and 1."""
    if max(values) <= 1 and min(values) < 1:
        return [tick for tick in _nice_ticks(values) if min(values) - 1e-9 <= tick <= max(values) + 1e-9]
    low, high = math.floor(min(values)), math.ceil(max(values))
    step = max(1, math.ceil((high - low) / 10))
    return [float(x) for x in range(low, high + 1, step)]


def _nice_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers that enclose the values: steps of 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - abs(low) * 0.1 - 0.01, high + abs(high) * 0.1 + 0.01
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
