"""Whether the file that would be served may become champion: one verdict from a list of rules with numbers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from components.evaluation.bootstrap import Interval, fraction_interval
from components.evaluation.metric_names import LARGER_IS_BETTER, title, without_level
from components.evaluation.paired_test import PairedComparison
from components.promotion.settings import FinerLimits, PromoteSettings
from components.records.export import Parity
from components.shared.errors import nearest
from components.shared.processor import Processor

_LAST_BITS = 1e-9
"""Sums of many 1/N differ in the last bits."""
_NAMED = 5


class ScoredClass(Protocol):
    """What the gate reads of a class's scores: the fields that class_floors names."""

    @property
    def label(self) -> str: ...
    @property
    def images(self) -> int: ...
    @property
    def recall(self) -> float: ...


class ScoredSlice(Protocol):
    """What the gate reads of a slice's scores, besides those that slice_floors names."""

    @property
    def column(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def images(self) -> int: ...


@dataclass(frozen=True)
class GateMeasurements:
    """What was measured of the very file when it was made; None where no measurement of this file is kept."""

    size_bytes: int | None = None
    latency_p50_ms: float | None = None
    """For the card alone."""
    latency_p95_ms: float | None = None
    parity_difference: float | None = None
    """Largest logit difference between torch and ONNX fp32."""
    parity: Parity | None = None
    """Of this very file."""
    processor: Processor | None = None
    """That exported and measured it."""
    scores: Mapping[str, float] | None = None
    fp32_scores: Mapping[str, float] | None = None
    """Of the fp32 file on the same images as `scores`."""
    serving_check: bool | None = None
    """Whether a clean process served its package."""


@dataclass(frozen=True)
class Candidate:
    """What the gate knows of the file that would be served."""

    format: str
    """fp32 or int8."""
    sha256: str
    scores: Mapping[str, float]
    """Of the file on the test images, by name."""
    intervals: Mapping[str, Interval]
    """Of the scores of prediction sets, by name."""
    images: int
    """Number of test images."""
    baseline_accuracy: float
    """Accuracy of always answering what is commonest among the test images."""
    classes: Sequence[ScoredClass]
    slices: Sequence[ScoredSlice]
    measured: GateMeasurements
    processor: Processor
    """On which it was scored."""
    max_parity_difference: float
    min_agreement: float
    """Of its answers with those of the network in torch."""
    pairs_across_splits: Mapping[str, int]
    """From the leak proof."""
    comparisons_left_out: int
    """By the search that the proof rests on, because too many pictures share a hash; 0: it was complete."""
    split_digest: str
    proof_digest: str
    """Digest that the leak proof was made for."""
    test_images_trained_on: int
    """Of the test images, those that stand among its own training images."""
    validation_passed: bool | None
    """Of the data version that it was trained on; None where no report is kept."""


@dataclass(frozen=True)
class ChampionComparison:
    """The champion on the same images, without those that it was trained on."""

    version: str
    images: int
    taken_out: int
    """Test images that the champion was trained on, or that are near duplicates of such."""
    test_digest: str
    """SHA-256 over the images that both were scored on, and their labels."""
    champion: Mapping[str, float]
    challenger: Mapping[str, float]
    intervals: Mapping[str, Interval]
    """Challenger minus champion, of the scores that may not be lost; each end as sure as promote.confidence."""
    paired: PairedComparison


@dataclass(frozen=True)
class RuleVerdict:
    rule: str
    value: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class Decision:
    promoted: bool
    """Whether it may be; with promote.approval a person has the last word."""
    reasons: list[str]
    """One sentence a rule that was broken, or one that says why the file passed."""
    rules: list[RuleVerdict]


def decide(candidate: Candidate, champion: ChampionComparison | None, settings: PromoteSettings) -> Decision:
    rules = [
        *_scores(candidate, settings),
        *(_baseline(candidate) if settings.beat_baseline else ()),
        *_classes(candidate, settings.class_floors),
        *_slices(candidate, settings),
        *_file(candidate, settings),
        *_data(candidate, settings),
        *(_against(champion, settings) if champion is not None else ()),
    ]
    broken = [f"{rule.rule}: {rule.value}, should be {rule.limit}" for rule in rules if not rule.passed]
    if not settings.configured:
        broken.insert(0, "no floor is configured; set promote.floors, such as {accuracy: 0.9}")
    passed = f"the {candidate.format} file passes all {len(rules)} rules"
    return Decision(promoted=not broken, reasons=broken or [passed], rules=rules)


def _scores(candidate: Candidate, settings: PromoteSettings) -> Iterator[RuleVerdict]:
    for name, floor in (settings.floors or {}).items():
        yield _at_least(f"{title(name)} of the served file", candidate.scores.get(name), floor)
    for name, ceiling in (settings.ceilings or {}).items():
        yield _at_most(f"{title(name)} of the served file", candidate.scores.get(name), ceiling)
    if settings.min_coverage is not None:
        yield _coverage(candidate, settings.min_coverage)


def _coverage(candidate: Candidate, least: float) -> RuleVerdict:
    """Broken where the coverage is significantly less, or no answer is sure: sets of all classes cover everything."""
    rule, limit = "coverage of the prediction sets", f"at least {least:g} at its upper end, with answers"
    found, interval = candidate.scores.get("coverage"), candidate.intervals.get("coverage")
    if found is None or interval is None:
        return RuleVerdict(rule, "not measured, for predict.coverage was null", limit, False)
    answered = candidate.scores["answered"]
    value = f"{found:.4f} (95%: {interval[0]:.4f} to {interval[1]:.4f}), sure of {answered:.1%}"
    return RuleVerdict(rule, value, limit, interval[1] >= least and answered > 0)


def _baseline(candidate: Candidate) -> Iterator[RuleVerdict]:
    accuracy = candidate.scores["accuracy"]
    low, _ = fraction_interval(round(accuracy * candidate.images), candidate.images)
    yield RuleVerdict(
        "lower end of accuracy's 95% interval",
        f"{low:.4f} ({accuracy:.4f} of {candidate.images} images)",
        f"above {candidate.baseline_accuracy:.4f}, which the commonest answer alone reaches",
        low > candidate.baseline_accuracy,
    )


def _classes(candidate: Candidate, floors: FinerLimits | None) -> Iterator[RuleVerdict]:
    present = [one for one in candidate.classes if one.images]
    untested = [one.label for one in candidate.classes if not one.images]
    for name, floor in (floors or {}).items():
        if isinstance(floor, dict):
            yield from (_of_class(present, label, name, limit) for label, limit in floor.items())
            continue
        values = [(one.label, getattr(one, name)) for one in present]
        rule = _worst(f"lowest {title(name)} of a class", values, floor)
        yield replace(rule, value=f"{rule.value}; {_without_images(untested)}", passed=False) if untested else rule


def _without_images(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return f"no test image of {', '.join(labels[:_NAMED])}{more}"


def _of_class(present: Sequence[ScoredClass], label: str, name: str, floor: float) -> RuleVerdict:
    rule = f"{title(name)} of the class {label}"
    found = next((one for one in present if one.label == label), None)
    if found is None:
        close = nearest(label, [one.label for one in present])
        return RuleVerdict(rule, f"no test image has it{close}", f"at least {floor:g}", False)
    return _at_least(rule, getattr(found, name), floor)


def _slices(candidate: Candidate, settings: PromoteSettings) -> Iterator[RuleVerdict]:
    large_enough = [one for one in candidate.slices if one.images >= settings.min_slice_images]
    for name, floor in (settings.slice_floors or {}).items():
        limits = floor if isinstance(floor, dict) else {None: floor}
        for column, limit in limits.items():
            rule = f"lowest {title(name)} of a slice" + (f" by {column}" if column else "")
            own = [one for one in large_enough if column in (None, one.column)]
            yield _worst(rule, [(f"{one.column} {one.value}", getattr(one, name)) for one in own], limit)


def _worst(rule: str, values: Sequence[tuple[str, float]], floor: float) -> RuleVerdict:
    if not values:
        return RuleVerdict(rule, "none has test images enough", f"at least {floor:g}", False)
    # A value that is no number is the worst of all.
    name, value = min(values, key=lambda one: -math.inf if math.isnan(one[1]) else one[1])
    return RuleVerdict(rule, f"{value:.4f} ({name})", f"at least {floor:g}", value >= floor)


def _file(candidate: Candidate, settings: PromoteSettings) -> Iterator[RuleVerdict]:
    found = candidate.measured
    rule = "logit difference of torch and the fp32 file"
    yield _at_most(rule, found.parity_difference, candidate.max_parity_difference, style=".2g")
    yield _agreement(found.parity, candidate.min_agreement)
    if found.processor is not None and found.processor.features != candidate.processor.features:
        limit = f"as a warning: it was exported on {found.processor}, and another may differ in speed and int8 answers"
        yield RuleVerdict("processor of these scores", str(candidate.processor), limit, True)
    if settings.max_megabytes is not None:
        size = found.size_bytes / 10**6 if found.size_bytes is not None else None
        yield _at_most("megabytes of the served file", size, settings.max_megabytes, style=".3f")
    if settings.max_latency_ms is not None:
        yield _at_most("95th percentile of latency, in ms", found.latency_p95_ms, settings.max_latency_ms, style=".2f")
    for name, allowed in (settings.max_quantization_drop or {}).items():
        own, fp32 = ((scores or {}).get(name) for scores in (found.scores, found.fp32_scores))
        yield _change(f"{title(name)} against fp32", name, own, fp32, allowed)
    if settings.serving_check:
        outcome = {True: "passed", False: "failed", None: "not made"}[found.serving_check]
        yield RuleVerdict("serving check in a clean process", outcome, "passed", found.serving_check is True)


def _agreement(parity: Parity | None, least: float) -> RuleVerdict:
    """Broken where even the upper end of the interval lies below: few images prove little about the last per cent."""
    rule, limit = "agreement of the served file with torch", f"at least {least:g} at its upper end"
    if parity is None or math.isnan(parity.agreement):
        return RuleVerdict(rule, "not measured", limit, False)
    low, high = fraction_interval(round(parity.agreement * parity.images), parity.images)
    value = (
        f"{parity.agreement:.4f} of {parity.images} images (95%: {low:.4f} to {high:.4f}), "
        f"largest logit difference {parity.max_logit_difference:.2g}"
    )
    return RuleVerdict(rule, value, limit, high >= least)


def _data(candidate: Candidate, settings: PromoteSettings) -> Iterator[RuleVerdict]:
    outcome = {True: "passed", False: "failed", None: "no report"}[candidate.validation_passed]
    yield RuleVerdict("data validation", outcome, "passed", candidate.validation_passed is True)
    counts = candidate.pairs_across_splits.values()
    found = str(sum(counts)) if counts else "not audited"
    yield RuleVerdict("pairs leaking across splits", found, "0", bool(counts) and not any(counts))
    left_out, most = candidate.comparisons_left_out, settings.max_comparisons_left_out
    yield RuleVerdict(
        "comparisons that the search for leaks left out", str(left_out), f"at most {most}", left_out <= most
    )
    same = candidate.split_digest == candidate.proof_digest
    yield RuleVerdict("leak proof is for this split", "yes" if same else "no", "yes", same)
    trained_on = candidate.test_images_trained_on
    yield RuleVerdict("test images that it was trained on", str(trained_on), "0", trained_on == 0)


def _against(comparison: ChampionComparison, settings: PromoteSettings) -> Iterator[RuleVerdict]:
    against = f"against champion v{comparison.version}"
    out = (
        f" ({comparison.taken_out} taken out: it was trained on them or their near duplicates)"
        if comparison.taken_out
        else ""
    )
    enough = comparison.images >= settings.min_images_against_champion
    yield RuleVerdict(
        f"test images {against}",
        f"{comparison.images}{out}",
        f"at least {settings.min_images_against_champion}",
        enough,
    )
    if not comparison.images:
        return
    for name, allowed in (settings.max_drop_against_champion or {}).items():
        yield _sure_change(f"{title(name)} {against}", name, comparison, allowed, settings.confidence)


def _sure_change(
    rule: str, name: str, comparison: ChampionComparison, allowed: float, confidence: float
) -> RuleVerdict:
    """Broken where even the better end of the interval is a larger loss than allowed."""
    larger = without_level(name) in LARGER_IS_BETTER
    limit = f"{_change_limit(allowed, larger=larger)} at its {'upper' if larger else 'lower'} end"
    own, other = (scores.get(name) for scores in (comparison.challenger, comparison.champion))
    interval = comparison.intervals.get(name)
    if own is None or other is None or interval is None:
        return RuleVerdict(rule, "not measured", limit, False)
    change, paired = own - other, comparison.paired
    counts = f"; won {paired.only_challenger_correct}, lost {paired.only_champion_correct} of {paired.images} images"
    value = (
        f"{_signed(change)} ({_signed(interval[0])} to {_signed(interval[1])}, each end {100 * confidence:g}% sure"
        f"{counts if name == 'accuracy' else ''})"
    )
    loss = -interval[1] if larger else interval[0]
    return RuleVerdict(rule, value, limit, loss <= allowed + _LAST_BITS and not math.isnan(change))


def _change(rule: str, name: str, own: float | None, other: float | None, allowed: float) -> RuleVerdict:
    larger = without_level(name) in LARGER_IS_BETTER
    limit = _change_limit(allowed, larger=larger)
    if own is None or other is None:
        return RuleVerdict(rule, "not measured", limit, False)
    change = own - other
    loss = -change if larger else change
    return RuleVerdict(rule, _signed(change), limit, loss <= allowed + _LAST_BITS)


def _change_limit(allowed: float, *, larger: bool) -> str:
    return f"at least {-allowed or 0:+g}" if larger else f"at most {allowed:+g}"


def _signed(change: float) -> str:
    """A change, however small, is shown as different from none."""
    small = _LAST_BITS < abs(change) < 0.001
    return f"{change:+.1e}" if small else f"{change:+.4f}"


def _at_least(rule: str, value: float | None, floor: float) -> RuleVerdict:
    passed = value is not None and value >= floor
    return RuleVerdict(rule, _shown(value, ".4f"), f"at least {floor:g}", passed)


def _at_most(rule: str, value: float | None, ceiling: float, *, style: str = ".4f") -> RuleVerdict:
    passed = value is not None and value <= ceiling
    return RuleVerdict(rule, _shown(value, style), f"at most {ceiling:g}", passed)


def _shown(value: float | None, style: str) -> str:
    return "not measured" if value is None else format(value, style)
