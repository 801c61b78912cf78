"""gate_v1.json, gate_v2.json, …: the gate's decision on a version, kept by its run beside the ledger."""

from typing import ClassVar

from pydantic import TypeAdapter

from components.promotion.gate import ChampionComparison, RuleVerdict
from components.promotion.ledger import Entry
from components.records.record import Record

_COMPARISON: TypeAdapter[ChampionComparison | None] = TypeAdapter(ChampionComparison | None)


class GateRecord(Record):
    TITLE: ClassVar[str] = "gate's decision"
    REMEDY: ClassVar[str] = "`darkroom promote` with the version writes it again"

    promoted: bool
    reasons: list[str]
    rules: list[RuleVerdict]
    comparison: ChampionComparison | None
    """None where there was no champion to compare with."""
    entry: int
    """Number of the decision's entry in the ledger."""


def gate_record_name(version: str) -> str:
    """Name of the file, by the number of the version."""
    return f"gate_v{version}.json"


def recorded_comparison(entry: Entry) -> ChampionComparison | None:
    """The comparison with the champion that an entry of the ledger records."""
    return _COMPARISON.validate_python(entry.record.get("comparison"))
