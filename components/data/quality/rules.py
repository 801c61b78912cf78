"""The rules that the data must meet, as params.yaml sets them: a range or a demand, and what breaking it does."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.shared.settings import Settings

Level = Literal["warn", "stop"]


class Rule(Settings):
    """A rule on each row of a table."""

    fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the rows that must meet the rule."""
    level: Level
    """stop: the stage fails and no model is trained on this data; warn: the report says so."""


class RangeRule(Rule):
    """A range for one measured value; one of its ends may be open."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a range with at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"a range; at_least {self.at_least:g} lies above at_most {self.at_most:g}")
        return self


class KnownClasses(Settings):
    """A closed list of labels, each of which has images."""

    labels: list[str] = Field(min_length=1)
    level: Level


class QualitySettings(Settings):
    """params.yaml: validate. Every rule is a line of the validation report."""

    images: RangeRule
    """Number of decodable images."""
    images_per_class: RangeRule
    """Number of decodable images in each class."""
    imbalance: RangeRule
    """Images of the largest class over those of the smallest."""
    decodable_fraction: RangeRule
    """Fraction of the files that can be decoded."""
    conflicting_labels: RangeRule
    """Fraction of the images whose bytes also appear under another label."""
    side_px: RangeRule
    """Shorter side of each image, in pixels."""
    aspect: RangeRule
    """Width over height."""
    brightness: RangeRule
    """Mean luma, 0 (black) to 1 (white)."""
    contrast: RangeRule
    """Standard deviation of the luma, 0 (a single colour) to 0.5."""
    sharpness: RangeRule
    """Variance of the Laplacian of the luma; a blurred image has little."""
    entropy_bits: RangeRule | None = None
    """Entropy of the luma histogram, from 0 to 8 bits."""
    colourfulness: RangeRule | None = None
    """Colourfulness (Hasler and Süsstrunk 2003): 0 is grey, above 80 is vivid."""
    unique_paths: Rule = Rule(level="stop")
    """No path is listed twice; fraction: 0.99 tolerates one percent of repeated rows."""
    labels_present: Rule = Rule(level="stop")
    """Every image has a label; `fraction` as above."""
    known_classes: KnownClasses | None = None
    """null: any label | {labels: [a, b], level: stop}: no other label, and images of each of these."""
    drift: RangeRule | None = None
    """Population stability index of each column against the baseline; above 0.25 it has changed."""
    class_drift: RangeRule | None = None
    """The same index of the class frequencies."""


def meaning(rule: str) -> str:
    """What a rule measures, with its unit; empty for an unknown rule."""
    field = QualitySettings.model_fields.get(rule)
    return str(field.description).splitlines()[0] if field is not None else ""
