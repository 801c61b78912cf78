"""The gate, as a table: what a candidate is, what the rules are, and what comes of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.errors import SettingsError
from components.evaluation.significance import PairedComparison, compare_paired
from components.promotion.gate import Candidate, ChampionComparison, PromoteSettings, ServedScores, decide

NAN = float("nan")
GOOD = Candidate(
    format="int8",
    sha256="a" * 64,
    scores=ServedScores(accuracy=0.98, macro_f1=0.97),
    parity_difference=1e-5,
    max_parity_difference=1e-3,
    pairs_across_parts={"exact": 0, "near": 0, "group": 0},
    split_digest="s" * 64,
    proof_digest="s" * 64,
)


def settings(**changes: Any) -> PromoteSettings:
    values = {"min_accuracy": 0.9, "min_macro_f1": 0.9, "max_loss_against_champion": 0.0, "confidence": 0.95}
    return PromoteSettings.from_section("promote", values | changes)


def scored(accuracy: float, macro_f1: float) -> Candidate:
    return replace(GOOD, scores=ServedScores(accuracy, macro_f1))


def champion(
    accuracy: float = 0.97,
    macro_f1: float = 0.97,
    *,
    challenger: ServedScores = GOOD.scores,
    lost: int = 0,
    won: int = 2,
) -> ChampionComparison:
    total = 100
    challenger_right = np.array([True] * won + [False] * lost + [True] * (total - won - lost))
    champion_right = np.array([False] * won + [True] * lost + [True] * (total - won - lost))
    paired = compare_paired(challenger_right, champion_right)
    return ChampionComparison("3", ServedScores(accuracy, macro_f1), challenger, paired)


@pytest.mark.parametrize(
    ("candidate", "rules"),
    [
        (GOOD, settings()),
        (replace(GOOD, format="fp32"), settings()),
        (GOOD, settings(min_accuracy=0.98, min_macro_f1=0.97)),
        (scored(0.98, 0.2), settings(min_macro_f1=None)),
        (scored(0.2, 0.98), settings(min_accuracy=None)),
        (scored(0.0, 0.0), settings(min_accuracy=0.0, min_macro_f1=None)),
        (replace(GOOD, parity_difference=1e-3), settings()),
    ],
    ids=["both floors", "fp32", "at the floor", "accuracy alone", "F1 alone", "zero is a floor", "parity at its limit"],
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
        (GOOD, settings(min_accuracy=None, min_macro_f1=None), "no floor is configured; set promote.min_accuracy"),
        (replace(GOOD, parity_difference=0.002), settings(), "parity of torch and ONNX: 0.002"),
        (replace(GOOD, parity_difference=NAN), settings(), "parity of torch and ONNX: nan"),
        (replace(GOOD, pairs_across_parts={"exact": 0, "near": 1}), settings(), "pairs leaking across parts: 1"),
        (replace(GOOD, pairs_across_parts={}), settings(), "pairs leaking across parts: not audited"),
        (replace(GOOD, proof_digest="t" * 64), settings(), "leak proof is for this split: no, should be yes"),
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
    candidate = replace(scored(0.1, 0.1), parity_difference=1.0, proof_digest="", pairs_across_parts={"near": 2})
    decision = decide(candidate, champion(challenger=ServedScores(0.1, 0.1), lost=80), settings())
    assert not decision.promoted
    assert len(decision.reasons) == len(decision.rules) == 8


@pytest.mark.parametrize(
    ("comparison", "rules", "promoted"),
    [
        (champion(0.97, 0.96), settings(), True),
        (champion(0.98, 0.97, won=0), settings(), True),
        (champion(0.98, 0.97, won=5, lost=5), settings(), True),
        (champion(0.99, 0.97), settings(), False),
        (champion(0.98, 0.99), settings(), False),
        (champion(0.99, 0.98, won=0, lost=1), settings(max_loss_against_champion=0.01), True),
        (champion(0.991, 0.97), settings(max_loss_against_champion=0.01), False),
        (champion(0.98, 0.97, won=0, lost=4), settings(), True),
        (champion(0.98, 0.97, won=0, lost=5), settings(), False),
        (champion(0.98, 0.97, won=0, lost=5), settings(confidence=0.99), True),
        (champion(NAN, 0.97), settings(), False),
        (champion(0.97, NAN), settings(), False),
        (champion(challenger=ServedScores(NAN, 0.97)), settings(), False),
        (champion(challenger=ServedScores(0.98, NAN)), settings(), False),
    ],
    ids=[
        "better",
        "equal",
        "equal by other images",
        "less accurate",
        "lower F1",
        "worse within the allowance",
        "worse than the allowance",
        "four lost images may be bad luck",
        "five lost images are not",
        "unless more proof is asked for",
        "champion's accuracy is no number",
        "champion's F1 is no number",
        "accuracy is no number",
        "F1 is no number",
    ],
)
def test_a_candidate_may_not_be_worse_than_the_champion(
    comparison: ChampionComparison, rules: PromoteSettings, promoted: bool
) -> None:
    decision = decide(GOOD, comparison, rules)
    assert decision.promoted is promoted
    assert promoted or all("against champion v3" in reason for reason in decision.reasons)


def test_a_loss_of_the_last_bits_is_no_loss() -> None:
    challenger = ServedScores(0.3, 0.7)
    comparison = champion(0.1 + 0.2, 0.7, challenger=challenger)
    assert comparison.champion.accuracy > challenger.accuracy
    assert decide(replace(GOOD, scores=challenger), comparison, settings(min_accuracy=0.1, min_macro_f1=0.1)).promoted


def test_a_comparison_over_no_images_proves_nothing() -> None:
    empty = ChampionComparison("3", GOOD.scores, GOOD.scores, PairedComparison(0, 0, 0, 0.0, 1.0))
    assert not decide(GOOD, empty, settings()).promoted


def test_being_better_than_the_champion_does_not_help_over_a_floor() -> None:
    low = ServedScores(0.8, 0.8)
    decision = decide(scored(0.8, 0.8), champion(0.5, 0.5, challenger=low), settings())
    assert not decision.promoted


@pytest.mark.parametrize(
    "change", [{"min_accuracy": 1.01}, {"min_macro_f1": -0.1}, {"min_accuracy": NAN}, {"confidence": 1.0}]
)
def test_a_floor_that_is_no_share_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"params.yaml: promote.{next(iter(change))}"):
        settings(**change)


def test_a_decision_is_a_plain_record() -> None:
    record = decide(GOOD, champion(), settings()).as_record()
    assert set(record) == {"promoted", "reasons", "rules"}
    assert all(set(rule) == {"rule", "value", "limit", "passed"} for rule in record["rules"])
