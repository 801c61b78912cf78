"""The ledger of every decision: entries that only ever grow in number, each sealed with the one before.

Pure functions on entries; where they are kept is the shell's concern.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from components.shared.errors import DarkroomError
from components.shared.files import sha256_of_record

Action = Literal["promoted", "refused", "awaiting approval", "rolled back"]
Verdict = Action | Literal["not judged"]
Turn = Action | Literal["serves again"]

_FIRST = "0" * 64


@dataclass(frozen=True)
class Draft:
    """A decision before it is written down."""

    action: Action
    version: str
    """The version that was judged; of a rollback the one that was gone back to."""
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
    previous_seal: str
    seal: str
    """SHA-256 over everything above; a changed entry breaks the chain."""

    @property
    def moment(self) -> str:
        """When, as a person reads it: 2026-01-02 03:04:05 UTC."""
        return self.when.replace("T", " ").replace("+00:00", " UTC")


@dataclass(frozen=True)
class Status:
    """Where a version stands: what every page, tag and sentence says of it."""

    verdict: Verdict
    entry: Entry | None = None
    """The decision that made it so; None where there was none."""
    judged: Entry | None = None
    """The last one about the version itself, with its rules and numbers."""

    @property
    def reasons(self) -> list[str]:
        return list(self.entry.reasons) if self.entry is not None else []


@dataclass(frozen=True)
class Mark:
    """How far a ledger had grown when the mark was set; without it, entries missing at the end would leave no trace."""

    entries: int
    seal: str


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
        "previous_seal": entries[-1].seal if entries else _FIRST,
    }
    return Entry(**content, seal=sha256_of_record(content))  # type: ignore[arg-type]


def check_chain(entries: Sequence[Entry], mark: Mark | None = None) -> None:
    """Raises DarkroomError naming the first entry that was changed, removed or added by hand."""
    seal = _FIRST
    for number, entry in enumerate(entries, start=1):
        content = {name: value for name, value in asdict(entry).items() if name != "seal"}
        if entry.number != number or entry.previous_seal != seal or entry.seal != sha256_of_record(content):
            raise DarkroomError(f"the ledger was changed at entry {number}; restore it from a backup")
        seal = entry.seal
    if mark is not None and len(entries) < mark.entries:
        raise DarkroomError(
            f"the ledger was shortened: it held {mark.entries} entries and holds {len(entries)}; "
            "restore it from a backup"
        )
    if mark is not None and mark.entries and entries[mark.entries - 1].seal != mark.seal:
        raise DarkroomError(f"the ledger was written anew up to entry {mark.entries}; restore it from a backup")


def mark_of(entries: Sequence[Entry]) -> Mark:
    return Mark(len(entries), entries[-1].seal if entries else _FIRST)


def standing(entries: Sequence[Entry], digests: Mapping[str, str]) -> list[Entry]:
    """The entries without those about a file that was deleted, where another file has its version's number now.

    A registry counts from 1 again after a model was deleted. `digests` are the SHA-256 of the registered versions by
    number. A rollback stays: it ends the reign of a version, and gives none to a file that wasn't judged.
    """
    return [entry for entry in entries if entry.action == "rolled back" or not _replaced(entry, digests)]


def _replaced(entry: Entry, digests: Mapping[str, str]) -> bool:
    judged = entry.record.get("sha256")
    return judged is not None and digests.get(entry.version, judged) != judged


def champions(entries: Sequence[Entry]) -> list[str]:
    """The versions that a rollback would go back through, the serving one last."""
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


def course_of(entries: Sequence[Entry], version: str) -> list[tuple[Turn, Entry]]:
    """What each decision meant for the version, oldest first.

    A rollback names the version that was gone back to; it concerns those as well whose place that one took.
    """
    course: list[tuple[Turn, Entry]] = []
    line: list[str] = []
    for entry in entries:
        before, line = line, _line_after(line, entry)
        if entry.action != "rolled back":
            course += [(entry.action, entry)] if entry.version == version else []
        elif version in before:
            course += [("rolled back", entry)] if version not in line else []
            course += [("serves again", entry)] if version == entry.champion else []
    return course


def status_of(entries: Sequence[Entry], version: str) -> Status:
    course = course_of(entries, version)
    judged = [(turn, entry) for turn, entry in course if entry.action != "rolled back"]
    if not judged:
        return Status("not judged")
    turn, entry = course[-1]
    if turn == "serves again":
        turn, entry = next(one for one in reversed(judged) if one[0] == "promoted")
    return Status(cast(Verdict, turn), entry, judged[-1][1])


def challenger(entries: Sequence[Entry]) -> str | None:
    """The version that was judged last and doesn't serve; None after a promotion or a rollback."""
    last = entries[-1] if entries else None
    if last is None or last.action not in ("refused", "awaiting approval") or last.version in champions(entries)[-1:]:
        return None
    return last.version
