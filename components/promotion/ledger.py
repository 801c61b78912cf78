"""The ledger of every decision: entries that only ever grow in number, each sealed with the one before.

Pure functions on entries; where they are kept is the shell's concern.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.errors import DarkroomError
from components.files import sha256_of_record

_FIRST = "0" * 64


@dataclass(frozen=True)
class Entry:
    number: int
    """Counted from 1 without gaps."""
    action: Literal["promoted", "refused", "rolled back"]
    version: str
    champion: str | None
    """The version that serves after this entry."""
    when: str
    """ISO 8601, UTC."""
    who: str
    reasons: list[str]
    record: dict[str, Any]
    """Numbers and lineage behind the decision."""
    previous_seal: str
    seal: str
    """SHA-256 over everything above; a changed entry breaks the chain."""


def next_entry(
    entries: list[Entry],
    *,
    action: Literal["promoted", "refused", "rolled back"],
    version: str,
    champion: str | None,
    when: str,
    who: str,
    reasons: list[str],
    record: dict[str, Any],
) -> Entry:
    content = {
        "number": len(entries) + 1,
        "action": action,
        "version": version,
        "champion": champion,
        "when": when,
        "who": who,
        "reasons": reasons,
        "record": record,
        "previous_seal": entries[-1].seal if entries else _FIRST,
    }
    return Entry(**content, seal=sha256_of_record(content))  # type: ignore[arg-type]


def check_chain(entries: list[Entry]) -> None:
    """Raises DarkroomError naming the first entry that was changed, removed or added by hand."""
    seal = _FIRST
    for number, entry in enumerate(entries, start=1):
        content = {name: value for name, value in asdict(entry).items() if name != "seal"}
        if entry.number != number or entry.previous_seal != seal or entry.seal != sha256_of_record(content):
            raise DarkroomError(f"the ledger was changed at entry {number}; restore it from a backup")
        seal = entry.seal


def champions(entries: list[Entry]) -> list[str]:
    """The versions that a rollback would go back through, the serving one last."""
    stack: list[str] = []
    for entry in entries:
        if entry.action == "promoted":
            stack = [version for version in stack if version != entry.version] + [entry.version]
        elif entry.action == "rolled back" and stack:
            stack.pop()
    return stack
