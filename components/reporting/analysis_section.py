"""Report section on where a model fails: slices, corruptions, calibration, OOD images, suspected labels, a map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.records.analysis import (
    ALL_CORRUPTIONS,
    AnalysisRecord,
    CorruptedScores,
    MeanAccuracy,
    OodScores,
    ReliabilityBin,
    SuspectedLabel,
)
from components.records.scores import ScoresRecord, SliceScores
from components.reporting.inline_pictures import Picture
from components.reporting.line_charts import Chart, Line, draw_chart
from components.reporting.score_estimates import Estimate, estimate

MAP_WIDTH, MAP_HEIGHT, _MARGIN = 760.0, 480.0, 30.0
_SHOWN_SLICES, _COLOURED_CLASSES, _MIN_IMAGES_IN_BIN = 12, 12, 5
_OOD_NAMES = {"given": "The given images", "noise": "Noise", "shuffled": "Shuffled test images"}


@dataclass(frozen=True)
class SliceLine:
    column: str
    value: str
    images: int
    accuracy: Estimate
    macro_f1: Estimate
    p_corrected: float


@dataclass(frozen=True)
class CorruptionLine:
    name: str
    strengths: Sequence[Estimate]
    """Accuracy from the weakest strength to the strongest; a single one for the original images."""
    mean: Estimate | None
    """Mean over the strengths."""


@dataclass(frozen=True)
class OodLine:
    name: str
    images: int
    energy_auroc: Estimate
    max_probability_auroc: Estimate
    detected: Estimate


@dataclass(frozen=True)
class SuspectLine:
    path: str
    label: str
    suggested: str
    score: float
    picture: Picture | None = None
    """None where the raw data no longer holds the image."""


@dataclass(frozen=True)
class MapPoint:
    x: float
    y: float
    hue: int
    """In degrees; equal for equal labels."""
    correct: bool
    text: str
    picture: str
    """A data: URI."""

    @property
    def peek_x(self) -> float:
        """Left edge of the picture that is shown while the pointer is on the point: always inside the map."""
        return min(self.x + 8, MAP_WIDTH - 72)

    @property
    def peek_y(self) -> float:
        """Upper edge of that picture."""
        return min(self.y + 8, MAP_HEIGHT - 72)


@dataclass(frozen=True)
class MappedImage:
    """A row of map.parquet."""

    path: str
    label: str
    predicted: str
    correct: bool
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
    """The numbers behind the chart, the original images first."""
    corrupted_images: int | None = None
    reliability: Chart | None = None
    ood: Sequence[OodLine] = ()
    suspects: Sequence[SuspectLine] = ()
    points: Sequence[MapPoint] = ()
    classes_on_map: Sequence[tuple[str, int]] = ()
    """Name and hue of each class, where they are few enough to be distinguished."""
    map_width: float = MAP_WIDTH
    map_height: float = MAP_HEIGHT

    @property
    def flawless(self) -> bool:
        """Whether no slice has an error."""
        return all(line.accuracy.value == 1.0 for line in self.slices)


def analysis_section(
    scores: ScoresRecord,
    analysis: AnalysisRecord,
    mapped: Sequence[MappedImage],
    *,
    suspects: Sequence[SuspectedLabel] = (),
    pictures: Mapping[str, Picture] | None = None,
) -> AnalysisSection:
    """`scores` and `analysis` are those of the served file; the map and the suspects come from the PyTorch model.

    `pictures` by path, for as many of the suspects as the raw data still holds.
    """
    names = sorted({one.label for one in mapped})
    hues = {name: round(360 * index / max(1, len(names))) for index, name in enumerate(names)}
    means = {one.corruption: one for one in analysis.robustness_means}
    return AnalysisSection(
        slices=[_slice_line(one) for one in scores.slices[:_SHOWN_SLICES]],
        num_slices=scores.num_slices,
        robustness=_robustness_chart(analysis.robustness, means),
        corruptions=_corruption_lines(analysis.robustness, means),
        corrupted_images=analysis.robustness[0].images if analysis.robustness else None,
        reliability=_reliability_chart(analysis.reliability),
        ood=[_ood_line(one) for one in analysis.ood],
        suspects=[_suspect_line(one, (pictures or {}).get(one.path)) for one in suspects],
        points=[_point(one, hues[one.label]) for one in mapped],
        classes_on_map=sorted(hues.items()) if 0 < len(names) <= _COLOURED_CLASSES else (),
    )


def _robustness_chart(scores: Sequence[CorruptedScores], means: Mapping[str, MeanAccuracy]) -> Chart | None:
    original = [(0.0, one.accuracy) for one in scores if one.strength == 0]
    points: dict[str, list[tuple[float, float]]] = {}
    for one in scores:
        if one.strength:
            points.setdefault(one.corruption, [*original]).append((float(one.strength), one.accuracy))
    return draw_chart(
        "Accuracy under corruptions",
        [Line(name, line, f"mean {means[name].accuracy:.4f}") for name, line in points.items()],
        ceiling=1.0,
        x_label="strength (0: original images)",
    )


def _corruption_lines(scores: Sequence[CorruptedScores], means: Mapping[str, MeanAccuracy]) -> list[CorruptionLine]:
    strengths: dict[str, list[Estimate]] = {}
    for one in scores:
        strengths.setdefault(one.corruption, []).append(estimate(one.accuracy, one.interval))
    lines = [CorruptionLine(name, found, _mean(means.get(name))) for name, found in strengths.items()]
    return [*lines, *(CorruptionLine("all of them", (), _mean(means[ALL_CORRUPTIONS])) for _ in range(bool(lines)))]


def _mean(one: MeanAccuracy | None) -> Estimate | None:
    return None if one is None else estimate(one.accuracy, one.interval)


def _reliability_chart(bins: Sequence[ReliabilityBin]) -> Chart | None:
    """Bins of a few predictions say nothing, and are left out."""
    points = [(one.confidence, one.accuracy) for one in bins if one.images >= _MIN_IMAGES_IN_BIN]
    if not points:
        return None
    return draw_chart(
        "Accuracy by confidence (calibration)",
        [
            Line("this model", sorted(points), f"each point: at least {_MIN_IMAGES_IN_BIN} predictions"),
            Line("perfectly calibrated", [(0.0, 0.0), (1.0, 1.0)], ""),
        ],
        ceiling=1.0,
        x_label="confidence (probability of the predicted class)",
    )


def _slice_line(one: SliceScores) -> SliceLine:
    return SliceLine(
        column=one.column,
        value=one.value,
        images=one.images,
        accuracy=estimate(one.accuracy, one.interval),
        macro_f1=estimate(one.macro_f1, one.macro_f1_interval),
        p_corrected=one.p_corrected,
    )


def _ood_line(one: OodScores) -> OodLine:
    return OodLine(
        name=_OOD_NAMES[one.name],
        images=one.images,
        energy_auroc=estimate(one.energy_auroc, one.energy_auroc_interval),
        max_probability_auroc=estimate(one.max_probability_auroc, one.max_probability_auroc_interval),
        detected=estimate(one.detected, one.detected_interval),
    )


def _suspect_line(one: SuspectedLabel, picture: Picture | None) -> SuspectLine:
    return SuspectLine(one.path, one.label, one.suggested, one.score, picture)


def _point(one: MappedImage, hue: int) -> MapPoint:
    predicted = "" if one.correct else f", predicted as {one.predicted}"
    return MapPoint(
        x=round(_MARGIN + one.x * (MAP_WIDTH - 2 * _MARGIN), 1),
        y=round(_MARGIN + one.y * (MAP_HEIGHT - 2 * _MARGIN), 1),
        hue=hue,
        correct=one.correct,
        text=f"{one.label}{predicted}: {one.path}",
        picture=one.picture,
    )
