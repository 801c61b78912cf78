"""Report section on the gate's last decision: its rules, and the comparison with the champion."""

from collections.abc import Sequence

from components.promotion.gate import ChampionComparison, RuleVerdict
from components.reporting.report_page import ComparisonLine, DecisionLine, GateSection, RuleLine

_COMPARED = (("Accuracy", "accuracy"), ("Macro F1", "macro_f1"))


def gate_section(
    rules: Sequence[RuleVerdict], comparison: ChampionComparison | None, decisions: Sequence[DecisionLine]
) -> GateSection:
    """`comparison` is None where there was no champion to compare with."""
    lines = [RuleLine(rule.rule, rule.value, rule.limit, rule.passed) for rule in rules]
    if comparison is None:
        return GateSection(lines, decisions)
    challenger, champion = comparison.challenger, comparison.champion
    compared = [ComparisonLine(name, challenger.get(key), champion.get(key)) for name, key in _COMPARED]
    return GateSection(lines, decisions, comparison.version, comparison.paired.images, compared)
