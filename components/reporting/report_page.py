"""The report page: contents in, the text of one HTML file out that asks for nothing from outside.

What a user named (classes, files, reasons) is untrusted: the templates escape all of it, and a content policy in the
page forbids scripts and requests even if something slipped through. None is written as `unknown`, never guessed.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

from components.reporting.evaluation_section import EvaluationSection
from components.reporting.inline_pictures import Picture
from components.reporting.latency_text import is_unsteady
from components.reporting.leak_proof_section import LeakProofSection
from components.reporting.line_charts import Chart
from components.reporting.page_template import Filters, render_template
from components.reporting.score_estimates import Estimate

Verdict = Literal["promoted", "refused", "waiting", "rolled-back", "undecided", "unregistered"]

_SHOWN_DIGEST = 12
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Fact:
    name: str
    value: str | None
    note: str = ""


@dataclass(frozen=True)
class RuleLine:
    """A rule of the gate or of the data's validation, with what was found."""

    rule: str
    value: str | None
    limit: str | None
    passed: bool | None
    warns: bool = False
    """Broken, it warns instead of stopping."""
    examples: Sequence[str] = ()
    meaning: str = ""
    """What is measured, with its unit."""


@dataclass(frozen=True)
class Headline:
    name: str
    version: str | None
    verdict: Verdict
    status: str
    """Which version serves now, in one sentence."""
    decided: str
    """By whom and when; empty where nothing was decided."""
    reasons: Sequence[str]
    aliases: Sequence[str]
    served: str | None
    scored: str
    """Whose scores these are, such as: the int8 file."""
    accuracy: Estimate
    macro_f1: Estimate
    test_images: int | None
    size_bytes: int | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True)
class DecisionLine:
    """An entry of the ledger about this version."""

    number: int
    when: str
    who: str
    action: str
    reasons: Sequence[str]


@dataclass(frozen=True)
class ComparisonLine:
    """One score of this version and of the champion at that time, on the same images."""

    score: str
    challenger: float | None
    champion: float | None


@dataclass(frozen=True)
class GateSection:
    rules: Sequence[RuleLine]
    decisions: Sequence[DecisionLine] = ()
    champion: str | None = None
    """The version that it was compared with."""
    compared_images: int | None = None
    comparison: Sequence[ComparisonLine] = ()


@dataclass(frozen=True)
class ClassCounts:
    label: str
    splits: Sequence[int]
    """In the order of DataSection.splits."""

    @property
    def total(self) -> int:
        return sum(self.splits)


@dataclass(frozen=True)
class Quarantined:
    path: str
    reason: str


@dataclass(frozen=True)
class DataSection:
    splits: Sequence[str] = ()
    counts: Sequence[ClassCounts] = ()
    rules: Sequence[RuleLine] = ()
    quarantined: Sequence[Quarantined] = ()
    """As many as are worth showing."""
    num_quarantined: int | None = None
    leak: LeakProofSection | None = None
    preview: Picture | None = None
    augmentation: str = ""

    @property
    def totals(self) -> list[int]:
        return [sum(column) for column in zip(*(one.splits for one in self.counts), strict=True)]


@dataclass(frozen=True)
class EpochLine:
    step: str
    epoch: int
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    val_macro_f1: float | None
    seconds: float | None
    chosen: bool | None
    """Whether this epoch's model was chosen; None where it is unknown."""


@dataclass(frozen=True)
class TrainingSection:
    facts: Sequence[Fact]
    charts: Sequence[Chart] = ()
    epochs: Sequence[EpochLine] = ()


@dataclass(frozen=True)
class FormatLine:
    name: str
    chosen: bool
    size_bytes: int | None
    accuracy: Estimate
    macro_f1: Estimate
    agreement: float | None
    """Fraction of validation images with the prediction of fp32."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    images_per_second: float | None
    best_batch: int | None
    """Batch size of that throughput."""
    peak_mib: float | None
    sha256: str | None


@dataclass(frozen=True)
class FormatSection:
    lines: Sequence[FormatLine]
    reasons: Sequence[str] = ()
    parity: Sequence[str] = ()
    """One sentence per file."""
    picture: Picture | None = None

    @property
    def unsteady(self) -> bool:
        return any(is_unsteady(line.p50_ms, line.p95_ms) for line in self.lines)


@dataclass(frozen=True)
class LineageSection:
    facts: Sequence[Fact]
    packages: Sequence[Fact] = ()
    params: Mapping[str, Sequence[Fact]] = field(default_factory=dict)


@dataclass(frozen=True)
class PageContents:
    """Everything on the page; for a section that is None, `missing` has a sentence."""

    headline: Headline
    written: str
    """When, and by which release."""
    others: str = ""
    """How to see the other versions."""
    gate: GateSection | None = None
    data: DataSection | None = None
    training: TrainingSection | None = None
    evaluation: EvaluationSection | None = None
    formats: FormatSection | None = None
    lineage: LineageSection | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()
    """What could not be read while the page was written."""


def render_page(contents: PageContents) -> str:
    filters: Filters = {
        "score": score_text,
        "count": count_text,
        "whole": rounded,
        "size": size_text,
        "ms": ms_text,
        "percent": percent_text,
        "known": known_text,
        "digest": short_digest,
        "prose": prose,
    }
    return render_template("report.html.j2", filters, page=contents, is_unsteady=is_unsteady)


def score_text(value: float | None) -> str:
    """Four decimals; NaN is a score that is not defined, such as the ROC AUC of a class without images."""
    if value is None:
        return "unknown"
    return "not defined" if math.isnan(value) else f"{value:.4f}"


def count_text(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def size_text(value: int | None) -> str:
    if value is None:
        return "unknown"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value} bytes"


def ms_text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} ms"


def percent_text(value: float) -> str:
    return f"{100 * value:.1f}%"


def known_text(value: object) -> str:
    return "unknown" if value is None or value == "" else str(value)


def short_digest(value: str | None) -> str:
    return "unknown" if not value else value[:_SHOWN_DIGEST]


def prose(text: str) -> Markup:
    """Escaped, with `commands` between backticks set as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))
