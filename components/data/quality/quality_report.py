"""The outcome of checking the data against its rules, as data/reports/validation.json records it."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExampleImages:
    """A few images of a class, or of a range that has grown in a column."""

    title: str
    paths: list[str]
    """Empty where no image can be shown."""


@dataclass(frozen=True)
class RuleResult:
    rule: str
    level: str
    passed: bool
    value: str
    """The observed value."""
    limit: str
    examples: list[str]
    """The first of the paths, classes or columns that broke the rule."""
    num_broken: int = 0
    """Number of all that broke the rule."""
    shown: list[ExampleImages] = field(default_factory=list)
    """Images of the examples, where those are no paths."""


@dataclass(frozen=True)
class QualityReport:
    results: list[RuleResult]
    num_images: int
    num_quarantined: int
    images_per_class: dict[str, int]
    """Number of decoded images by class; 0 where none of a class's files can be decoded."""

    @property
    def broken(self) -> list[RuleResult]:
        return [result for result in self.results if not result.passed]

    @property
    def stopping(self) -> list[RuleResult]:
        """The broken rules because of which the data must not be used."""
        return [result for result in self.broken if result.level == "stop"]

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"passed": not self.stopping}
