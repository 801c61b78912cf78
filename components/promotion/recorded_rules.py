"""The rules of a decision as the ledger holds them: all of them where they are few, else the most important ones.

A floor for each of a thousand classes is a thousand rules, and an entry of the ledger has a limited length.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from components.promotion.gate import RuleVerdict
from components.shared.files import sha256_of_record

MOST_LETTERS = 25_000
"""Of the rules in an entry, and of its reasons, as JSON."""
DIGEST = "rules_sha256"


def shortened(rules: Sequence[RuleVerdict]) -> dict[str, Any]:
    """What an entry records of its rules.

    Where they are too many: the broken ones first, as many as fit, how many there are of each verdict, and the digest
    of the whole list, which is kept elsewhere.
    """
    kept = _first([asdict(rule) for rule in sorted(rules, key=lambda rule: rule.passed)])
    if len(kept) == len(rules):
        return {"rules": [asdict(rule) for rule in rules]}
    broken = sum(not rule.passed for rule in rules)
    return {"rules": kept, "num_rules": len(rules), "num_broken": broken, DIGEST: rules_digest(rules)}


def rules_digest(rules: Iterable[RuleVerdict]) -> str:
    """SHA-256 of the whole list, as an entry names it."""
    return sha256_of_record([asdict(rule) for rule in rules])


def rules_from(values: Iterable[Mapping[str, Any]]) -> list[RuleVerdict]:
    """The rules that stand in an entry or in a file."""
    return [RuleVerdict(**one) for one in values]


def shortened_reasons(reasons: Sequence[str]) -> list[str]:
    """The first ones, as many as fit, and how many more there are."""
    kept = _first(reasons)
    return kept if len(kept) == len(reasons) else [*kept, f"and {len(reasons) - len(kept)} more of the rules"]


def _first(lines: Sequence[Any]) -> list[Any]:
    room, kept = MOST_LETTERS, []
    for line in lines:
        room -= len(json.dumps(line))
        if room < 0:
            break
        kept.append(line)
    return kept
