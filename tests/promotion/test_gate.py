"""The gate, as a table: what a candidate is, what the rules are, and what comes of it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluation.paired_test import PairedComparison, compare_paired
from components.promotion.gate import Candidate, ChampionComparison, GateMeasurements, decide
from components.promotion.gate_record import GateRecord, gate_record_name, recorded_comparison
from components.promotion.ledger import Draft, next_entry
from components.promotion.settings import PromoteSettings
from components.records.export import Parity
from components.shared.errors import SettingsError
from components.shared.processor import Processor

NAN = float("nan")


@dataclass(frozen=True)
class Class:
    label: str
    images: int
    recall: float
    precision: float = 1.0


@dataclass(frozen=True)
class Slice:
    column: str
    value: str
    images: int
    accuracy: float
    macro_f1: float = 1.0


GOOD = Candidate(
    format="int8",
    sha256="a" * 64,
    scores={"accuracy": 0.98, "macro_f1": 0.97, "log_loss": 0.1, "expected_calibration_error": 0.02},
    intervals={},
    images=100,
    baseline_accuracy=0.5,
    classes=[Class("cat", 50, 0.99), Class("dog", 50, 0.9, 0.8)],
    slices=[Slice("blur", "high", 30, 0.8), Slice("source", "phone", 40, 0.95), Slice("blur", "low", 5, 0.2)],
    measured=GateMeasurements(
        size_bytes=1_000_000,
        latency_p95_ms=4.0,
        parity_difference=1e-5,
        parity=Parity(images=64, agreement=1.0, max_logit_difference=0.03),
        processor=Processor("quick", ["avx2", "avx512_vnni"]),
        scores={"accuracy": 0.98, "log_loss": 0.1},
        fp32_scores={"accuracy": 0.985, "log_loss": 0.08},
        serving_check=True,
    ),
    processor=Processor("another", ["avx2", "avx512_vnni"]),
    max_parity_difference=1e-3,
    min_agreement=0.98,
    pairs_across_splits={"exact": 0, "near": 0, "group": 0},
    comparisons_left_out=0,
    split_digest="s" * 64,
    proof_digest="s" * 64,
    test_images_trained_on=0,
    validation_passed=True,
)


def settings(**changes: Any) -> PromoteSettings:
    values: dict[str, Any] = {
        "floors": {"accuracy": 0.9, "macro_f1": 0.9},
        "ceilings": None,
        "class_floors": None,
        "slice_floors": None,
        "min_slice_images": 20,
        "max_drop_against_champion": {"accuracy": 0.0, "macro_f1": 0.0},
        "min_images_against_champion": 10,
        "confidence": 0.95,
        "max_quantization_drop": None,
        "max_megabytes": None,
        "max_latency_ms": None,
        "serving_check": False,
        "approval": False,
    }
    return PromoteSettings.from_section("promote", values | changes)


def floors(**values: float) -> PromoteSettings:
    return settings(floors=values)


def scored(accuracy: float, macro_f1: float) -> Candidate:
    return replace(GOOD, scores={"accuracy": accuracy, "macro_f1": macro_f1})


def measured(**changes: Any) -> Candidate:
    return replace(GOOD, measured=replace(GOOD.measured, **changes))


def covering(coverage: float, *, low: float, high: float, answered: float = 0.8) -> Candidate:
    return replace(
        GOOD,
        scores={**GOOD.scores, "coverage": coverage, "answered": answered},
        intervals={"coverage": (low, high)},
    )


def untested(*labels: str) -> Candidate:
    return replace(GOOD, classes=[*GOOD.classes, *(Class(label, 0, 0.0) for label in labels)])


def agreeing(fraction: float) -> Candidate:
    return measured(parity=Parity(images=64, agreement=fraction, max_logit_difference=0.03))


def champion(
    accuracy: float = 0.97,
    macro_f1: float = 0.97,
    *,
    challenger: tuple[float, float] = (0.98, 0.97),
    lost: int = 0,
    won: int = 2,
    images: int = 100,
    reach: float = 0.01,
    confidence: float = 0.95,
) -> ChampionComparison:
    same = [True] * (images - won - lost)
    paired = compare_paired(
        np.array([True] * won + [False] * lost + same), np.array([False] * won + [True] * lost + same)
    )
    return ChampionComparison(
        version="3",
        images=images,
        taken_out=0,
        test_digest="t" * 64,
        champion={"accuracy": accuracy, "macro_f1": macro_f1},
        challenger=dict(zip(("accuracy", "macro_f1"), challenger, strict=True)),
        intervals={
            "accuracy": paired.interval(confidence),
            "macro_f1": (challenger[1] - macro_f1 - reach, challenger[1] - macro_f1 + reach),
        },
        paired=paired,
    )


@pytest.mark.parametrize(
    ("candidate", "rules"),
    [
        (GOOD, settings()),
        (replace(GOOD, format="fp32"), settings()),
        (GOOD, floors(accuracy=0.98, macro_f1=0.97)),
        (scored(0.98, 0.2), floors(accuracy=0.9)),
        (scored(0.2, 0.98), floors(macro_f1=0.9)),
        (replace(GOOD, comparisons_left_out=12), settings(max_comparisons_left_out=12)),
        (measured(parity_difference=1e-3), settings()),
        (agreeing(62 / 64), settings()),
        (covering(0.94, low=0.9, high=0.96), settings(min_coverage=0.95)),
        (covering(0.5, low=0.4, high=0.6), settings()),
        (covering(0.96, low=0.94, high=0.98), settings(floors={"answered": 0.8})),
    ],
    ids=[
        "both floors",
        "fp32",
        "at the floor",
        "accuracy alone",
        "F1 alone",
        "search as complete as asked",
        "parity at its limit",
        "another answer that few images don't rule out",
        "a coverage that isn't significantly less",
        "no coverage is asked for",
        "as many answers as asked",
    ],
)
def test_a_first_model_needs_only_the_floors(candidate: Candidate, rules: PromoteSettings) -> None:
    decision = decide(candidate, None, rules)
    assert decision.promoted
    assert decision.reasons == [f"the {candidate.format} file passes all {len(decision.rules)} rules"]


@pytest.mark.parametrize(
    ("candidate", "rules", "reason"),
    [
        (scored(0.89, 0.95), settings(), "accuracy of the served file: 0.8900, should be at least 0.9"),
        (scored(0.95, 0.89), settings(), "macro F1 of the served file: 0.8900, should be at least 0.9"),
        (scored(NAN, 0.95), settings(), "accuracy of the served file: nan"),
        (scored(0.95, NAN), settings(), "macro F1 of the served file: nan"),
        (GOOD, settings(floors=None), "no floor is configured; set promote.floors"),
        (GOOD, settings(floors={}), "no floor is configured; set promote.floors"),
        (measured(parity_difference=0.002), settings(), "logit difference of torch and the fp32 file: 0.002"),
        (measured(parity_difference=NAN), settings(), "logit difference of torch and the fp32 file: nan"),
        (
            agreeing(54 / 64),
            settings(),
            "agreement of the served file with torch: 0.8438 of 64 images (95%: 0.7357 to 0.9129), largest logit "
            "difference 0.03, should be at least 0.98 at its upper end",
        ),
        (agreeing(NAN), settings(), "agreement of the served file with torch: not measured"),
        (measured(parity=None), settings(), "agreement of the served file with torch: not measured"),
        (replace(GOOD, pairs_across_splits={"exact": 0, "near": 1}), settings(), "pairs leaking across splits: 1"),
        (
            replace(GOOD, comparisons_left_out=12),
            settings(),
            "comparisons that the search for leaks left out: 12, should be at most 0",
        ),
        (replace(GOOD, pairs_across_splits={}), settings(), "pairs leaking across splits: not audited"),
        (replace(GOOD, proof_digest="t" * 64), settings(), "leak proof is for this split: no, should be yes"),
        (measured(parity_difference=None), settings(), "logit difference of torch and the fp32 file: not measured"),
        (replace(GOOD, test_images_trained_on=3), settings(), "test images that it was trained on: 3, should be 0"),
        (replace(GOOD, validation_passed=False), settings(), "data validation: failed, should be passed"),
        (replace(GOOD, validation_passed=None), settings(), "data validation: no report, should be passed"),
        (GOOD, floors(top_k_accuracy=0.5), "top k accuracy of the served file: not measured, should be at least 0.5"),
        (GOOD, settings(ceilings={"log_loss": 0.05}), "log loss of the served file: 0.1000, should be at most 0.05"),
        (
            GOOD,
            settings(ceilings={"expected_calibration_error": 0.01}),
            "expected calibration error of the served file: 0.0200, should be at most 0.01",
        ),
        (GOOD, settings(class_floors={"recall": 0.95}), "lowest recall of a class: 0.9000 (dog), should be at least"),
        (GOOD, settings(class_floors={"recall": {"cat": 1}}), "recall of the class cat: 0.9900, should be at least 1"),
        (GOOD, settings(class_floors={"recall": {"dogs": 0.1}}), "no test image has it; did you mean dog?"),
        (untested("eel"), settings(class_floors={"recall": {"eel": 0.1}}), "recall of the class eel: no test image"),
        (
            untested("eel", "emu"),
            settings(class_floors={"recall": 0.9}),
            "lowest recall of a class: 0.9000 (dog); no test image of eel, emu, should be at least 0.9",
        ),
        (
            untested(*"abcdefg"),
            settings(class_floors={"recall": 0.9}),
            "0.9000 (dog); no test image of a, b, c, d, e and 2 more, should be at least 0.9",
        ),
        (GOOD, settings(slice_floors={"accuracy": 0.9}), "lowest accuracy of a slice: 0.8000 (blur high)"),
        (GOOD, settings(slice_floors={"accuracy": {"blur": 0.9}}), "lowest accuracy of a slice by blur: 0.8000"),
        (GOOD, settings(slice_floors={"accuracy": {"group": 0.1}}), "by group: none has test images enough"),
        (GOOD, settings(max_megabytes=0.9), "megabytes of the served file: 1.000, should be at most 0.9"),
        (measured(size_bytes=None), settings(max_megabytes=9), "megabytes of the served file: not measured"),
        (GOOD, settings(max_latency_ms=3.5), "95th percentile of latency, in ms: 4.00, should be at most 3.5"),
        (
            GOOD,
            settings(max_quantization_drop={"accuracy": 0.004}),
            "accuracy against fp32: -0.0050, should be at least",
        ),
        (GOOD, settings(max_quantization_drop={"log_loss": 0.01}), "log loss against fp32: +0.0200, should be at most"),
        (measured(scores=None), settings(max_quantization_drop={"accuracy": 1}), "accuracy against fp32: not measured"),
        (
            covering(0.93, low=0.91, high=0.9499),
            settings(min_coverage=0.95),
            "coverage of the prediction sets: 0.9300 (95%: 0.9100 to 0.9499), sure of 80.0%, should be at least 0.95 "
            "at its upper end, with answers",
        ),
        (
            covering(1.0, low=0.9, high=1.0, answered=0.0),
            settings(min_coverage=0.95),
            "coverage of the prediction sets: 1.0000 (95%: 0.9000 to 1.0000), sure of 0.0%, should be",
        ),
        (GOOD, settings(min_coverage=0.9), "coverage of the prediction sets: not measured, for predict.coverage was"),
        (
            covering(1.0, low=0.9, high=1.0),
            settings(floors={"answered": 0.81}),
            "fraction of sure answers of the served file: 0.8000, should be at least 0.81",
        ),
        (measured(serving_check=False), settings(serving_check=True), "clean process: failed, should be passed"),
        (measured(serving_check=None), settings(serving_check=True), "clean process: not made, should be passed"),
    ],
)
def test_a_broken_rule_keeps_a_model_out_and_is_named(
    candidate: Candidate, rules: PromoteSettings, reason: str
) -> None:
    decision = decide(candidate, None, rules)
    assert not decision.promoted
    assert len(decision.reasons) == 1
    assert reason in decision.reasons[0]


def test_every_broken_rule_is_named() -> None:
    candidate = replace(
        measured(parity_difference=1.0, parity=None),
        scores={"accuracy": 0.1, "macro_f1": 0.1},
        proof_digest="",
        pairs_across_splits={"near": 2},
        comparisons_left_out=1,
        test_images_trained_on=1,
        validation_passed=None,
    )
    decision = decide(
        candidate, champion(challenger=(0.1, 0.1), lost=80, images=90), settings(min_images_against_champion=91)
    )
    assert not decision.promoted
    assert len(decision.reasons) == len(decision.rules) == 12


ALLOWING = {"accuracy": 0.02, "macro_f1": 0.02}


@pytest.mark.parametrize(
    ("comparison", "rules", "promoted"),
    [
        (champion(0.97, 0.96), settings(), True),
        (champion(0.98, 0.97, won=0, lost=0, reach=0), settings(), True),
        (champion(0.98, 0.97, won=5, lost=5), settings(), True),
        (champion(won=1000, lost=1001, images=4000), settings(), True),
        (champion(won=0, lost=4), settings(), True),
        (champion(won=0, lost=5), settings(), False),
        (champion(won=0, lost=5, confidence=0.99), settings(confidence=0.99), True),
        (champion(won=0, lost=10, images=100_000), settings(), False),
        (champion(won=0, lost=10, images=100_000), settings(max_drop_against_champion=ALLOWING), True),
        (champion(won=0, lost=300, images=10_000), settings(max_drop_against_champion=ALLOWING), False),
        (champion(0.98, 0.975), settings(), True),
        (champion(0.98, 0.985), settings(), False),
        (champion(0.98, 0.985), settings(max_drop_against_champion=ALLOWING), True),
        (champion(won=0, lost=50), settings(max_drop_against_champion={"macro_f1": 0.0}), True),
        (champion(won=0, lost=50), settings(max_drop_against_champion=None), True),
        (champion(NAN, 0.97), settings(), False),
        (champion(0.97, NAN), settings(), False),
        (champion(challenger=(NAN, 0.97)), settings(), False),
        (champion(challenger=(0.98, NAN)), settings(), False),
    ],
    ids=[
        "better",
        "unchanged",
        "equal by other images",
        "one more lost of very many",
        "four lost images may be chance",
        "five lost images are not",
        "unless more proof is asked for",
        "a small loss that is sure",
        "a small loss that is sure and allowed",
        "significantly more than allowed",
        "an F1 that may be chance",
        "an F1 that significantly fell",
        "an F1 that fell within the allowance",
        "only the scores that are named count",
        "nothing is asked for",
        "champion's accuracy is no number",
        "champion's F1 is no number",
        "accuracy is no number",
        "F1 is no number",
    ],
)
def test_a_candidate_may_not_significantly_lose_more_than_allowed(
    comparison: ChampionComparison, rules: PromoteSettings, promoted: bool
) -> None:
    decision = decide(GOOD, comparison, rules)
    assert decision.promoted is promoted
    assert promoted or all("against champion v3" in reason for reason in decision.reasons)


def test_a_loss_against_the_champion_shows_its_interval_and_limit() -> None:
    both = replace(
        champion(won=0, lost=10, images=100_000), champion={"accuracy": 0.98}, challenger={"accuracy": 0.9799}
    )
    (reason,) = decide(GOOD, both, settings(max_drop_against_champion={"accuracy": 0.0})).reasons
    assert reason == (
        "accuracy against champion v3: -1.0e-04 (-1.6e-04 to -4.0e-05, each end 95% sure; won 0, lost 10 of 100000 "
        "images), should be at least +0 at its upper end"
    )


def test_a_comparison_over_no_images_proves_nothing() -> None:
    nothing = PairedComparison(0, 0, 0, 0.0)
    empty = replace(champion(), images=0, taken_out=100, champion={}, challenger={}, intervals={}, paired=nothing)
    (reason,) = decide(GOOD, empty, settings()).reasons
    assert reason == (
        "test images against champion v3: 0 (100 taken out: it was trained on them or their near duplicates), "
        "should be at least 10"
    )


def test_a_score_where_smaller_is_better_may_not_significantly_grow() -> None:
    both = replace(champion(), champion={"log_loss": 0.1}, challenger={"log_loss": 0.14})
    both = replace(both, intervals={"log_loss": (0.02, 0.06)})
    (reason,) = decide(GOOD, both, settings(max_drop_against_champion={"log_loss": 0.01})).reasons
    assert reason.endswith("+0.0400 (+0.0200 to +0.0600, each end 95% sure), should be at most +0.01 at its lower end")
    assert decide(GOOD, both, settings(max_drop_against_champion={"log_loss": 0.03})).promoted


def test_a_score_that_the_champion_lacks_is_no_proof() -> None:
    decision = decide(GOOD, champion(), settings(max_drop_against_champion={"log_loss": 0.01}))
    assert decision.reasons == ["log loss against champion v3: not measured, should be at most +0.01 at its lower end"]


def test_every_type_of_rule_can_be_passed() -> None:
    rules = settings(
        ceilings={"expected_calibration_error": 0.02, "log_loss": 0.1},
        class_floors={"recall": 0.9, "precision": {"cat": 1.0}},
        slice_floors={"accuracy": {"blur": 0.8, "source": 0.95}, "macro_f1": 1.0},
        max_quantization_drop={"accuracy": 0.005, "log_loss": 0.02},
        max_megabytes=1.0,
        max_latency_ms=4.0,
        serving_check=True,
    )
    decision = decide(GOOD, champion(), rules)
    assert decision.promoted, decision.reasons
    assert len(decision.rules) == 2 + 2 + 2 + 3 + 7 + 5 + 3


def test_another_processor_than_that_of_the_export_is_reported_and_refuses_nothing() -> None:
    assert not any("processor" in rule.rule for rule in decide(GOOD, None, settings()).rules)
    decision = decide(measured(processor=Processor("slow", ["avx2"])), None, settings())
    (warning,) = [rule for rule in decision.rules if rule.rule == "processor of these scores"]
    assert decision.promoted
    assert (warning.value, warning.passed) == ("another (avx2, avx512_vnni)", True)
    assert warning.limit.startswith("as a warning: it was exported on slow (avx2), and another may differ")


def test_being_better_than_the_champion_does_not_help_over_a_floor() -> None:
    decision = decide(scored(0.8, 0.8), champion(0.5, 0.5, challenger=(0.8, 0.8)), settings())
    assert not decision.promoted


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"floors": {"accuracy": 1.01}}, "promote.floors: .*should have accuracy in .0, 1"),
        ({"floors": {"accuracy": 0.0}}, "promote.floors: .*a floor of 0 lets every model through"),
        ({"class_floors": {"recall": {"cat": 0}}}, "promote.class_floors: .*a floor of 0 lets every model through"),
        ({"slice_floors": {"accuracy": 0}}, "promote.slice_floors: .*a floor of 0 lets every model through"),
        ({"floors": {"accuracy": NAN}}, "promote.floors: .*should have accuracy in .0, 1"),
        ({"floors": {"acuracy": 0.9}}, "promote.floors: .*acuracy is none; did you mean accuracy?"),
        ({"floors": {"log_loss": 0.9}}, "promote.floors: .*without log_loss.*smaller: put it under ceilings"),
        ({"ceilings": {"macro_f1": 0.9}}, "promote.ceilings: .*without macro_f1.*larger: put it under floors"),
        ({"ceilings": {"log_loss": -0.1}}, "promote.ceilings: .*should have log_loss at least 0"),
        ({"class_floors": {"recal": 0.9}}, "promote.class_floors: .*did you mean recall?"),
        ({"class_floors": {"recall": {"cat": 2.0}}}, "promote.class_floors: .*should have recall in"),
        ({"slice_floors": {"recall": 0.9}}, "promote.slice_floors: .*recall is none"),
        ({"max_drop_against_champion": {"accuracy": -1.0}}, "should have accuracy at least 0"),
        ({"confidence": 0.9999}, "promote.confidence"),
        ({"max_megabytes": 0.0}, "promote.max_megabytes"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=f"params.yaml: .*{sentence}"):
        settings(**change)


def test_scores_of_a_coarser_level_are_rules_too() -> None:
    candidate = replace(GOOD, scores={"super.accuracy": 0.9})
    assert decide(candidate, None, settings(floors={"super.accuracy": 0.9})).promoted
    assert not decide(candidate, None, settings(floors={"super.accuracy": 0.95})).promoted


def test_a_decision_is_written_and_read_as_a_record(tmp_path: Path) -> None:
    decision, compared = decide(GOOD, champion(), settings()), champion()
    record = GateRecord(
        promoted=decision.promoted, reasons=decision.reasons, rules=decision.rules, comparison=compared, entry=1
    )
    record.write(tmp_path / gate_record_name("3"))
    assert GateRecord.read(tmp_path / "gate_v3.json") == record
    ledger = next_entry([], Draft("promoted", "3", "3", "ada", [], {"comparison": asdict(compared)}), when="now")
    assert recorded_comparison(ledger) == compared
