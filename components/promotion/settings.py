"""What a file must show to become champion: the section `promote` of params.yaml."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from components.evaluation.metric_names import (
    LARGER_IS_BETTER,
    OF_A_CLASS,
    OF_A_SLICE,
    OF_SETS,
    SMALLER_IS_BETTER,
    without_level,
)
from components.shared.errors import SettingsError, nearest
from components.shared.settings import Settings

Limits = dict[str, float]
FinerLimits = dict[str, float | Limits]
"""A limit for all of them, or one for each that is named."""


def _of(known: Sequence[str], *, floors: bool = False, better: str = "", levels: bool = True) -> Callable[[Any], Any]:
    """Refuses names that aren't known and limits out of range; with `levels` a name may be of a coarser level."""

    def check(limits: Any) -> Any:
        for name, limit in (limits or {}).items():
            _check_name(without_level(name) if levels else name, known, better)
            for value in limit.values() if isinstance(limit, dict) else [limit]:
                if floors and not 0 < value <= 1:
                    raise ValueError(f"it should have {name} in (0, 1]: a floor of 0 lets every model through")
                if not value >= 0:
                    raise ValueError(f"it should have {name} at least 0")
        return limits

    return check


def _check_name(name: str, known: Sequence[str], better: str) -> None:
    if name in known:
        return
    if better and name in (*LARGER_IS_BETTER, *SMALLER_IS_BETTER):
        raise ValueError(f"it should be without {name}, which is better when {better}")
    raise ValueError(f"it should hold known scores, and {name} is none{nearest(name, known)}")


_EITHER = _of((*LARGER_IS_BETTER, *SMALLER_IS_BETTER))


class PromoteSettings(Settings):
    """params.yaml: promote. Where no floor and no ceiling is configured nothing is promoted."""

    floors: Annotated[
        Limits | None,
        AfterValidator(_of((*LARGER_IS_BETTER, *OF_SETS), floors=True, better="smaller: put it under ceilings")),
    ]
    """Least scores of the served file on the test split, above 0, by the names of `evaluate`'s scores."""
    ceilings: Annotated[Limits | None, AfterValidator(_of(SMALLER_IS_BETTER, better="larger: put it under floors"))]
    """Largest scores where smaller is better, such as {expected_calibration_error: 0.05}."""
    class_floors: Annotated[FinerLimits | None, AfterValidator(_of(OF_A_CLASS, floors=True, levels=False))]
    """Least score of every class, such as {recall: 0.9}, or of named classes, such as {recall: {cat: 0.9}}.

    A class without test images fails the rule.
    """
    slice_floors: Annotated[FinerLimits | None, AfterValidator(_of(OF_A_SLICE, floors=True, levels=False))]
    """Least score of every slice, such as {accuracy: 0.8}, or by a column, such as {accuracy: {sharpness: 0.8}}."""
    min_coverage: float | None = Field(default=None, gt=0, lt=1)
    """Least coverage of the prediction sets; refused where the test split shows significantly less, or nothing is sure.

    Broken where even the upper end of the 95% interval lies below. `floors: {answered: 0.8}` asks for answers as well.
    """
    beat_baseline: bool = False
    """true: the served file must be significantly more accurate than always answering what is commonest in test.

    The lower end of the 95% interval of its accuracy counts. It is a floor of its own: with it others may be null.
    """
    min_slice_images: int = Field(ge=1)
    """Test images below which a slice is ignored; larger asks for more evidence."""
    max_drop_against_champion: Annotated[Limits | None, AfterValidator(_EITHER)]
    """Largest loss of a score against the champion; a version that significantly loses more is refused.

    Both are scored on the same test images, without those that the champion was trained on.
    """
    min_images_against_champion: int = Field(ge=1)
    """Least test images that the champion wasn't trained on; fewer prove nothing."""
    confidence: float = Field(gt=0.5, le=0.999)
    """Confidence at which a loss counts as significant, at most 0.999; larger asks for more proof of a loss.

    One-sided. A thousand resamples show no finer confidence.
    """
    max_comparisons_left_out: int = Field(default=0, ge=0)
    """Pairs of look-alikes that the search for leaks may leave out; larger accepts an incomplete search as proof.

    The search leaves pairs out where more images look alike to it than it compares with each other.
    """
    max_quantization_drop: Annotated[Limits | None, AfterValidator(_EITHER)]
    """Largest loss of the served file's scores against fp32, such as {accuracy: 0.005}."""
    max_megabytes: float | None = Field(gt=0)
    """Largest size of the served file, in 10^6 bytes; larger admits larger files."""
    max_latency_ms: float | None = Field(gt=0)
    """Largest 95th percentile of one image's latency on the machine that quantized; larger admits slower files."""
    serving_check: bool
    """true: a clean process must have served this very package; false admits a package that failed there."""
    approval: bool
    """true: what passes the gate waits for `darkroom approve`."""

    @property
    def configured(self) -> bool:
        """Whether any limit on a score is set."""
        return any((self.floors, self.ceilings, self.class_floors, self.slice_floors, self.beat_baseline))

    def check_levels(self, levels: Sequence[str]) -> None:
        """Raises SettingsError where a rule asks for a level that isn't among these; the coarsest stands first."""
        coarser = list(levels[:-1])
        for section in ("floors", "ceilings", "max_drop_against_champion", "max_quantization_drop"):
            for name in getattr(self, section) or {}:
                level = name.rpartition(".")[0]
                if level and level not in coarser:
                    there = f"levels above the finest are {', '.join(coarser)}" if coarser else "labels have no levels"
                    raise SettingsError(
                        f"params.yaml: promote.{section}: {name} is of no level that is scored; the {there}"
                        f"{nearest(level, coarser)}"
                    )
