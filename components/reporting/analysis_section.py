"""The part of the report on where a model fails and what it looks at, from analysis.json and what lies beside it.

Letters: none; all is text and geometry of the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.reporting.inline_pictures import Picture
from components.reporting.line_charts import Chart, Line, draw_chart
from components.reporting.record_fields import Record, number_of, whole_of
from components.reporting.score_estimates import Estimate, estimate_of

MAP_WIDTH, MAP_HEIGHT, _MARGIN = 760.0, 480.0, 30.0
_SHOWN_SLICES, _COLOURED_CLASSES, _LEAST_IN_BIN = 12, 12, 5
_ALL = "corruptions"
_SET_NAMES = {"given": "The given images", "noise": "Noise", "shuffled": "Shuffled test images"}


@dataclass(frozen=True)
class SliceLine:
    column: str
    value: str
    images: int | None
    accuracy: Estimate
    macro_f1: Estimate
    p_corrected: float | None


@dataclass(frozen=True)
class CorruptionLine:
    name: str
    strengths: Sequence[Estimate]
    """Accuracy, from the weakest strength to the strongest; of the clean images one."""
    mean: Estimate | None
    """Over the strengths."""


@dataclass(frozen=True)
class OodLine:
    name: str
    images: int | None
    energy_auroc: Estimate
    max_probability_auroc: Estimate
    noticed: Estimate


@dataclass(frozen=True)
class SuspectLine:
    path: str
    label: str
    suggested: str
    score: float | None
    picture: Picture | None = None
    """Where the image is in reach."""


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
    robustness: Chart | None = None
    corruptions: Sequence[CorruptionLine] = ()
    """What the chart shows, in numbers; the clean images first."""
    corrupted_images: int | None = None
    reliability: Chart | None = None
    ood: Sequence[OodLine] = ()
    suspects: Sequence[SuspectLine] = ()
    points: Sequence[MapPoint] = ()
    classes_on_map: Sequence[tuple[str, int]] = ()
    """Name and hue, where they are few enough to tell apart."""
    map_width: float = MAP_WIDTH
    map_height: float = MAP_HEIGHT

    @property
    def flawless(self) -> bool:
        """Whether no slice holds a mistake."""
        return all(line.accuracy.value == 1.0 for line in self.slices)


def analysis_section(
    scores: Record,
    analysis: Record | None,
    placed: Sequence[Placed],
    *,
    inside: Record | None = None,
    pictures: Mapping[str, Picture] | None = None,
) -> AnalysisSection:
    """Whatever the records hold; an older release left none of it.

    `analysis` is that of what is judged, `inside` that of the torch model where it is another one; `pictures` by path.
    """
    found = analysis or {}
    names = sorted({one.label for one in placed})
    hues = {name: round(360 * place / max(1, len(names))) for place, name in enumerate(names)}
    robustness = found.get("robustness") or []
    means = {str(one["corruption"]): one for one in found.get("robustness_means") or []}
    suspects = (found if inside is None else inside).get("suspected_labels") or []
    return AnalysisSection(
        slices=[_slice_line(one) for one in (scores.get("slices") or [])[:_SHOWN_SLICES]],
        num_slices=int(scores.get("num_slices") or 0),
        robustness=_robustness_chart(robustness, means),
        corruptions=_corruption_lines(robustness, means),
        corrupted_images=whole_of(robustness[0], "images") if robustness else None,
        reliability=_reliability_chart(found.get("reliability") or []),
        ood=[_ood_line(one) for one in found.get("ood") or []],
        suspects=[_suspect_line(one, pictures or {}) for one in suspects],
        points=[_point(one, hues[one.label]) for one in placed],
        classes_on_map=sorted(hues.items()) if 0 < len(names) <= _COLOURED_CLASSES else (),
    )


def _robustness_chart(entries: Sequence[Record], means: Mapping[str, Record]) -> Chart | None:
    clean = [one["accuracy"] for one in entries if one.get("strength") == 0]
    points: dict[str, list[tuple[float, float]]] = {}
    for one in entries:
        if one.get("strength"):
            line = points.setdefault(str(one["corruption"]), [(0.0, clean[0])] if clean else [])
            line.append((float(one["strength"]), float(one["accuracy"])))
    return draw_chart(
        "Accuracy under corruptions",
        [
            Line(name, line, f"mean {means[name]['accuracy']:.4f}" if name in means else None)
            for name, line in points.items()
        ],
        ceiling=1.0,
        x_label="strength (0: the images as they are)",
    )


def _corruption_lines(entries: Sequence[Record], means: Mapping[str, Record]) -> list[CorruptionLine]:
    strengths: dict[str, list[Estimate]] = {}
    for one in entries:
        strengths.setdefault(str(one.get("corruption")), []).append(estimate_of(one, "accuracy", one.get("interval")))
    lines = [CorruptionLine(name, found, _mean(means.get(name))) for name, found in strengths.items()]
    return [*lines, *(CorruptionLine("all of them", (), _mean(means[_ALL])) for _ in range(_ALL in means))]


def _mean(one: Record | None) -> Estimate | None:
    return None if one is None else estimate_of(one, "accuracy", one.get("interval"))


def _reliability_chart(entries: Sequence[Record]) -> Chart | None:
    """Of shares of a few answers nothing can be read."""
    points = [
        (float(one["confidence"]), float(one["accuracy"])) for one in entries if one.get("images", 0) >= _LEAST_IN_BIN
    ]
    if not points:
        return None
    return draw_chart(
        "How often answers are right, by how sure they are",
        [
            Line("answers", sorted(points), f"each point of at least {_LEAST_IN_BIN}"),
            Line("as often right as sure", [(0.0, 0.0), (1.0, 1.0)], ""),
        ],
        ceiling=1.0,
        x_label="confidence (the probability of the answer)",
    )


def _slice_line(one: Record) -> SliceLine:
    return SliceLine(
        column=str(one.get("column")),
        value=str(one.get("value")),
        images=whole_of(one, "images"),
        accuracy=estimate_of(one, "accuracy", one.get("interval")),
        macro_f1=estimate_of(one, "macro_f1", one.get("macro_f1_interval")),
        p_corrected=number_of(one, "p_corrected"),
    )


def _ood_line(one: Record) -> OodLine:
    name = str(one.get("name"))
    keys = ("energy_auroc", "max_probability_auroc", "noticed")
    found = {key: estimate_of(one, key, one.get(f"{key}_interval")) for key in keys}
    return OodLine(_SET_NAMES.get(name, name), whole_of(one, "images"), **found)


def _suspect_line(one: Record, pictures: Mapping[str, Picture]) -> SuspectLine:
    path = str(one.get("path"))
    return SuspectLine(
        path, str(one.get("label")), str(one.get("suggested")), number_of(one, "score"), pictures.get(path)
    )


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
