"""The ledger of every decision: entries that are only ever added, each with a checksum over itself and the one before.

The chain of checksums finds entries that were changed, lost or added by accident. It is no proof against tampering: who
can write to the server can compute checksums too. Pure functions on entries; the shell stores them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from components.shared.errors import DarkroomError
from components.shared.files import sha256_of_record

Action = Literal["promoted", "refused", "awaiting approval", "rolled back"]
Verdict = Action | Literal["undecided"]
Event = Action | Literal["serves again"]

_NO_CHECKSUM = "0" * 64


@dataclass(frozen=True)
class Draft:
    """A decision before it is written down."""

    action: Action
    version: str
    """The version that the decision is about; of a rollback the one that serves again."""
    champion: str | None
    """The version that serves after it."""
    who: str
    reasons: list[str]
    record: dict[str, Any]
    """Numbers and lineage behind the decision."""


@dataclass(frozen=True)
class Entry:
    number: int
    """Counted from 1 without gaps."""
    action: Action
    version: str
    champion: str | None
    """The version that serves after this entry."""
    when: str
    """ISO 8601, UTC."""
    who: str
    reasons: list[str]
    record: dict[str, Any]
    """Numbers and lineage behind the decision."""
    previous_checksum: str
    checksum: str
    """SHA-256 over all fields above; a changed entry breaks the chain."""

    @property
    def moment(self) -> str:
        """The time as people read it: 2026-01-02 03:04:05 UTC."""
        return self.when.replace("T", " ").replace("+00:00", " UTC")


@dataclass(frozen=True)
class Status:
    """Status of a version, as every page, tag and message shows it."""

    verdict: Verdict
    entry: Entry | None = None
    """The decision that led to this status; None where there was none."""
    own_entry: Entry | None = None
    """The last decision about the version itself, with its rules and scores; a rollback is about another one."""

    @property
    def reasons(self) -> list[str]:
        return list(self.entry.reasons) if self.entry is not None else []


@dataclass(frozen=True)
class Head:
    """Length and last checksum of a ledger, stored apart from it: so entries lost at its end are missed."""

    entries: int
    checksum: str


def next_entry(entries: Sequence[Entry], draft: Draft, *, when: str) -> Entry:
    content = {
        "number": len(entries) + 1,
        "action": draft.action,
        "version": draft.version,
        "champion": draft.champion,
        "when": when,
        "who": draft.who,
        "reasons": draft.reasons,
        "record": draft.record,
        "previous_checksum": entries[-1].checksum if entries else _NO_CHECKSUM,
    }
    return Entry(**content, checksum=sha256_of_record(content))  # type: ignore[arg-type]


def check_chain(entries: Sequence[Entry], head: Head | None = None) -> None:
    """Raises DarkroomError naming the first entry that was changed, removed or added by hand."""
    checksum = _NO_CHECKSUM
    for number, entry in enumerate(entries, start=1):
        content = {name: value for name, value in asdict(entry).items() if name != "checksum"}
        expected = (number, checksum, sha256_of_record(content))
        if (entry.number, entry.previous_checksum, entry.checksum) != expected:
            raise DarkroomError(f"the ledger was changed at entry {number}; restore it from a backup")
        checksum = entry.checksum
    if head is not None and len(entries) < head.entries:
        raise DarkroomError(
            f"the ledger was shortened: it held {head.entries} entries and holds {len(entries)}; "
            "restore it from a backup"
        )
    if head is not None and head.entries and entries[head.entries - 1].checksum != head.checksum:
        raise DarkroomError(f"the ledger was rewritten up to entry {head.entries}; restore it from a backup")


def head_of(entries: Sequence[Entry]) -> Head:
    return Head(len(entries), entries[-1].checksum if entries else _NO_CHECKSUM)


def current_entries(entries: Sequence[Entry], sha256s: Mapping[str, str]) -> list[Entry]:
    """The entries without those about a file that was deleted, where another file has its version's number now.

    A registry counts from 1 again after a model was deleted. `sha256s` are those of the registered versions, by number.
    A rollback stays: it takes a version out of service, and puts no file in service that the gate hasn't seen.
    """
    return [entry for entry in entries if entry.action == "rolled back" or not _replaced(entry, sha256s)]


def _replaced(entry: Entry, sha256s: Mapping[str, str]) -> bool:
    sha256 = entry.record.get("sha256")
    return sha256 is not None and sha256s.get(entry.version, sha256) != sha256


def champions(entries: Sequence[Entry]) -> list[str]:
    """The versions that served and weren't rolled back, the serving one last."""
    line: list[str] = []
    for entry in entries:
        line = _line_after(line, entry)
    return line


def _line_after(line: list[str], entry: Entry) -> list[str]:
    if entry.action == "promoted":
        return [version for version in line if version != entry.version] + [entry.version]
    if entry.action == "rolled back":
        return line[: line.index(entry.champion) + 1] if entry.champion in line else []
    return line


def history_of(entries: Sequence[Entry], version: str) -> list[tuple[Event, Entry]]:
    """What each decision meant for the version, oldest first.

    A rollback names the version that serves again; it concerns those as well that no longer serve.
    """
    history: list[tuple[Event, Entry]] = []
    line: list[str] = []
    for entry in entries:
        before, line = line, _line_after(line, entry)
        if entry.action != "rolled back":
            history += [(entry.action, entry)] if entry.version == version else []
        elif version in before:
            history += [("rolled back", entry)] if version not in line else []
            history += [("serves again", entry)] if version == entry.champion else []
    return history


def status_of(entries: Sequence[Entry], version: str) -> Status:
    history = history_of(entries, version)
    own = [(event, entry) for event, entry in history if entry.action != "rolled back"]
    if not own:
        return Status("undecided")
    event, entry = history[-1]
    if event == "serves again":
        event, entry = next(one for one in reversed(own) if one[0] == "promoted")
    return Status(cast(Verdict, event), entry, own[-1][1])


def challenger(entries: Sequence[Entry]) -> str | None:
    """The version that the gate decided on last and that doesn't serve; None after a promotion or a rollback."""
    last = entries[-1] if entries else None
    if last is None or last.action not in ("refused", "awaiting approval") or last.version in champions(entries)[-1:]:
        return None
    return last.version
