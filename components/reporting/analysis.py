"""The part of the report on where a model fails and what it looks at, from analysis.json and what lies beside it.

Letters: none; all is text and geometry of the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.reporting.curves import Chart, Line, draw_chart
from components.reporting.fields import Record

MAP_WIDTH, MAP_HEIGHT, _MARGIN = 760.0, 480.0, 30.0
_SHOWN_SLICES, _COLOURED_CLASSES = 20, 12
_SET_NAMES = {"given": "The given images", "noise": "Noise", "shuffled": "Shuffled test images"}


@dataclass(frozen=True)
class SliceLine:
    column: str
    value: str
    images: int | None
    accuracy: float | None
    interval: str
    macro_f1: float | None
    p_corrected: float | None


@dataclass(frozen=True)
class UnlikeLine:
    name: str
    images: int | None
    energy_auroc: float | None
    max_probability_auroc: float | None
    noticed: float | None


@dataclass(frozen=True)
class SuspectLine:
    path: str
    label: str
    suggested: str
    score: float | None


@dataclass(frozen=True)
class MapPoint:
    x: float
    y: float
    hue: int
    """In degrees; equal for equal labels."""
    right: bool
    text: str
    picture: str
    """A data: URI."""

    @property
    def peek_x(self) -> float:
        """Where the picture stands while the pointer is on the point: always inside the chart."""
        return min(self.x + 8, MAP_WIDTH - 72)

    @property
    def peek_y(self) -> float:
        return min(self.y + 8, MAP_HEIGHT - 72)


@dataclass(frozen=True)
class Placed:
    """An image of the map, as map.parquet has it."""

    path: str
    label: str
    said: str
    right: bool
    x: float
    y: float
    picture: str
    """A data: URI."""


@dataclass(frozen=True)
class AnalysisSection:
    slices: Sequence[SliceLine] = ()
    """The lowest accuracies."""
    num_slices: int = 0
    charts: Sequence[Chart] = ()
    unlike: Sequence[UnlikeLine] = ()
    suspects: Sequence[SuspectLine] = ()
    points: Sequence[MapPoint] = ()
    classes_on_map: Sequence[tuple[str, int]] = ()
    """Name and hue, where they are few enough to tell apart."""
    map_width: float = MAP_WIDTH
    map_height: float = MAP_HEIGHT


def analysis_section(scores: Record, analysis: Record | None, placed: Sequence[Placed]) -> AnalysisSection:
    """Whatever the records hold; an older release left none of it."""
    found = analysis or {}
    names = sorted({one.label for one in placed})
    hues = {name: round(360 * place / max(1, len(names))) for place, name in enumerate(names)}
    charts = (_robustness_chart(found.get("robustness") or []), _reliability_chart(found.get("reliability") or []))
    return AnalysisSection(
        slices=slice_lines(scores),
        num_slices=int(scores.get("num_slices") or 0),
        charts=[chart for chart in charts if chart is not None],
        unlike=[_unlike_line(one) for one in found.get("unlike") or []],
        suspects=[_suspect_line(one) for one in found.get("suspected_labels") or []],
        points=[_point(one, hues[one.label]) for one in placed],
        classes_on_map=sorted(hues.items()) if 0 < len(names) <= _COLOURED_CLASSES else (),
    )


def slice_lines(scores: Record) -> list[SliceLine]:
    """Of scores.json, those with the lowest accuracy."""
    return [_slice_line(one) for one in (scores.get("slices") or [])[:_SHOWN_SLICES]]


def interval_text(interval: Any) -> str:
    """`0.9012 to 0.9433`, or nothing where there is none."""
    if not isinstance(interval, Sequence) or len(interval) != 2 or any(math.isnan(edge) for edge in interval):
        return ""
    low, high = interval
    return f"{low:.4f} to {high:.4f}"


def _robustness_chart(entries: Sequence[Record]) -> Chart | None:
    clean = [one["accuracy"] for one in entries if one.get("strength") == 0]
    points: dict[str, list[tuple[float, float]]] = {}
    for one in entries:
        if one.get("strength"):
            line = points.setdefault(str(one["corruption"]), [(0.0, clean[0])] if clean else [])
            line.append((float(one["strength"]), float(one["accuracy"])))
    return draw_chart(
        "Accuracy under corruptions",
        [Line(name, line) for name, line in points.items()],
        ceiling=1.0,
        x_label="strength",
    )


def _reliability_chart(entries: Sequence[Record]) -> Chart | None:
    points = [(float(one["confidence"]), float(one["accuracy"])) for one in entries if one.get("images")]
    if not points:
        return None
    honest = Line("as sure as right", [(0.0, 0.0), (1.0, 1.0)])
    return draw_chart(
        "How often answers are right, by how sure they are",
        [Line("answers", sorted(points)), honest],
        ceiling=1.0,
        x_label="confidence",
    )


def _slice_line(one: Record) -> SliceLine:
    return SliceLine(
        column=str(one.get("column")),
        value=str(one.get("value")),
        images=one.get("images"),
        accuracy=one.get("accuracy"),
        interval=interval_text(one.get("interval")),
        macro_f1=one.get("macro_f1"),
        p_corrected=one.get("p_corrected"),
    )


def _unlike_line(one: Record) -> UnlikeLine:
    name = str(one.get("name"))
    numbers = {key: one.get(key) for key in ("images", "energy_auroc", "max_probability_auroc", "noticed")}
    return UnlikeLine(_SET_NAMES.get(name, name), **numbers)


def _suspect_line(one: Record) -> SuspectLine:
    return SuspectLine(str(one.get("path")), str(one.get("label")), str(one.get("suggested")), one.get("score"))


def _point(one: Placed, hue: int) -> MapPoint:
    said = "" if one.right else f", taken for {one.said}"
    return MapPoint(
        x=round(_MARGIN + one.x * (MAP_WIDTH - 2 * _MARGIN), 1),
        y=round(_MARGIN + one.y * (MAP_HEIGHT - 2 * _MARGIN), 1),
        hue=hue,
        right=one.right,
        text=f"{one.label}{said}: {one.path}",
        picture=one.picture,
    )
