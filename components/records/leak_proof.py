"""leakage.json: the proof that no image, near duplicate or group stands in two splits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from components.records.record import Record

LEAK_PROOF = "leakage.json"


@dataclass(frozen=True)
class SplitLeaks:
    """Pairs of images that stand in two splits, by type: exact, near, group, embedding."""

    pairs_across_splits: dict[str, int]
    leaking: dict[str, list[tuple[str, str]]]
    """Paths of both images, of the first pairs of each type."""
    leaking_unnamed: dict[str, int]
    """Pairs of each type beyond those."""

    @property
    def num_across(self) -> int:
        return sum(self.pairs_across_splits.values())


@dataclass(frozen=True)
class ExcludedImage:
    path: str
    reason: str


@dataclass(frozen=True)
class ClassDeviation:
    """The class and split whose fraction lies furthest from the configured one."""

    label: str
    split: str
    fraction: float
    """Of the class's images, in this split."""
    configured: float
    """Fraction that the settings give the split."""


class LeakProof(Record):
    TITLE: ClassVar[str] = "leak proof"
    REMEDY: ClassVar[str] = "`darkroom prepare` writes it again"

    split_digest: str
    """Fingerprint of the split that the proof was made for."""
    images: dict[str, int]
    """By split."""
    clusters: int
    """Groups of images that must stay in one split."""
    pairs: dict[str, int]
    """All pairs found, by type."""
    comparisons_left_out: int
    """Comparisons that the search skipped, because too many images share a hash; 0: it was complete."""
    candidates: int | None = None
    """Pairs with near hashes, whose pictures were compared; null in records of earlier releases."""
    all_leaking: str
    """File beside this one that names every pair across splits."""
    leaks: SplitLeaks
    leaks_as_given: SplitLeaks | None
    """Of the author's own splits, where the split departs from them."""
    moved_from_given_split: list[str]
    """Paths of images that stand in another split than the author put them in."""
    excluded: list[ExcludedImage]
    """Images in no split."""
    largest_deviation: ClassDeviation
    settings: dict[str, Any]
