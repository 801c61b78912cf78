"""The ledger of every decision: what was written stays, and shows when it was changed."""

import json
from dataclasses import asdict, replace

import pytest

from components.promotion.ledger import (
    Action,
    Draft,
    Entry,
    Verdict,
    challenger,
    champions,
    check_chain,
    current_entries,
    head_of,
    history_of,
    next_entry,
    status_of,
)
from components.shared.errors import DarkroomError


def ledger(*decisions: tuple[Action, str]) -> list[Entry]:
    entries: list[Entry] = []
    for action, version in decisions:
        draft = Draft(
            action=action,
            version=version,
            champion=version,
            who="somebody@somewhere",
            reasons=[f"{action} {version}"],
            record={"accuracy": 0.98, "rules": ["a", "b"]},
        )
        entries.append(next_entry(entries, draft, when="2026-01-02T03:04:05+00:00"))
    return entries


LONG = ledger(("promoted", "1"), ("refused", "2"), ("promoted", "3"), ("rolled back", "1"))


def test_entries_are_numbered_and_each_includes_the_checksum_of_the_one_before() -> None:
    assert [entry.number for entry in LONG] == [1, 2, 3, 4]
    assert LONG[0].previous_checksum == "0" * 64
    assert [entry.previous_checksum for entry in LONG[1:]] == [entry.checksum for entry in LONG[:-1]]
    assert len({entry.checksum for entry in LONG}) == 4
    check_chain(LONG, head_of(LONG))
    check_chain([], head_of([]))


def test_the_chain_holds_after_a_round_trip_through_json() -> None:
    check_chain([Entry(**json.loads(json.dumps(asdict(entry)))) for entry in LONG])


@pytest.mark.parametrize(
    "change",
    [
        {"action": "promoted"},
        {"version": "9"},
        {"champion": None},
        {"when": "2026-01-02T03:04:06+00:00"},
        {"who": "nobody"},
        {"reasons": []},
        {"record": {"accuracy": 0.99, "rules": ["a", "b"]}},
        {"number": 7},
        {"checksum": "f" * 64},
        {"previous_checksum": "f" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_entry_is_found(change: dict[str, object]) -> None:
    changed = [LONG[0], replace(LONG[1], **change), *LONG[2:]]  # type: ignore[arg-type]
    with pytest.raises(DarkroomError, match="the ledger was changed at entry 2"):
        check_chain(changed)


def test_a_removed_a_doubled_and_a_moved_entry_are_found() -> None:
    for changed in (LONG[1:], [LONG[0], *LONG[2:]], [LONG[0], LONG[0], *LONG[1:]], [LONG[1], LONG[0]]):
        with pytest.raises(DarkroomError, match="the ledger was changed at entry"):
            check_chain(changed)


def test_entries_that_are_missing_at_the_end_are_found_by_the_mark() -> None:
    for kept in (LONG[:3], LONG[:1], []):
        check_chain(kept)
        with pytest.raises(DarkroomError, match=f"it held 4 entries and holds {len(kept)}"):
            check_chain(kept, head_of(LONG))


def test_an_end_that_was_rewritten_is_found_by_the_head() -> None:
    other = ledger(("promoted", "1"), ("refused", "2"), ("promoted", "3"), ("rolled back", "2"))
    with pytest.raises(DarkroomError, match="rewritten up to entry 4"):
        check_chain(other, head_of(LONG))


def test_the_head_may_lag_behind_for_a_kill_can_come_between() -> None:
    for lag in range(len(LONG) + 1):
        check_chain(LONG, head_of(LONG[:lag]))


def test_an_entry_with_a_new_checksum_breaks_the_next_one() -> None:
    other = ledger(("promoted", "1"), ("promoted", "2"))[1]
    with pytest.raises(DarkroomError, match="at entry 3"):
        check_chain([LONG[0], other, *LONG[2:]])


@pytest.mark.parametrize(
    ("decisions", "line"),
    [
        ([], []),
        ([("refused", "1")], []),
        ([("awaiting approval", "1")], []),
        ([("promoted", "1")], ["1"]),
        ([("promoted", "1"), ("refused", "2")], ["1"]),
        ([("promoted", "1"), ("awaiting approval", "2")], ["1"]),
        ([("promoted", "1"), ("awaiting approval", "2"), ("promoted", "2")], ["1", "2"]),
        ([("promoted", "1"), ("promoted", "2"), ("rolled back", "1")], ["1"]),
        ([("promoted", "1"), ("promoted", "2"), ("rolled back", "1"), ("promoted", "3")], ["1", "3"]),
        ([("promoted", "1"), ("promoted", "2"), ("promoted", "1")], ["2", "1"]),
        ([("promoted", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled back", "1")], ["1"]),
        ([("promoted", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled back", "2"), ("rolled back", "1")], ["1"]),
        ([("rolled back", "1")], []),
    ],
)
def test_the_line_of_champions_is_a_stack(decisions: list[tuple[Action, str]], line: list[str]) -> None:
    assert champions(ledger(*decisions)) == line


def test_a_rollback_to_no_champion_leaves_none() -> None:
    entries = ledger(("promoted", "1"))
    draft = Draft(action="rolled back", version="1", champion=None, who="somebody", reasons=[], record={})
    assert champions([*entries, next_entry(entries, draft, when="")]) == []


@pytest.mark.parametrize(
    ("decisions", "version"),
    [
        ([], None),
        ([("promoted", "1")], None),
        ([("promoted", "1"), ("refused", "2")], "2"),
        ([("promoted", "1"), ("awaiting approval", "2")], "2"),
        ([("promoted", "1"), ("refused", "1")], None),
        ([("promoted", "1"), ("awaiting approval", "2"), ("promoted", "2")], None),
        ([("promoted", "1"), ("promoted", "2"), ("rolled back", "1")], None),
    ],
)
def test_the_challenger_is_who_was_decided_on_last_and_does_not_serve(
    decisions: list[tuple[Action, str]], version: str | None
) -> None:
    assert challenger(ledger(*decisions)) == version


@pytest.mark.parametrize(
    ("decisions", "version", "verdict", "by", "own"),
    [
        ([], "1", "undecided", None, None),
        ([("promoted", "1")], "2", "undecided", None, None),
        ([("promoted", "1"), ("promoted", "2")], "1", "promoted", 1, 1),
        ([("promoted", "1"), ("awaiting approval", "2"), ("refused", "3")], "2", "awaiting approval", 2, 2),
        ([("awaiting approval", "2"), ("refused", "2")], "2", "refused", 2, 2),
        # What a rollback takes back is explained by the rollback; its rules are those of its own decision.
        ([("promoted", "1"), ("promoted", "2"), ("rolled back", "1")], "2", "rolled back", 3, 2),
        ([("promoted", "1"), ("promoted", "2"), ("rolled back", "1")], "1", "promoted", 1, 1),
        ([("promoted", "1"), ("promoted", "2"), ("promoted", "3"), ("rolled back", "1")], "2", "rolled back", 4, 2),
        ([("promoted", "1"), ("promoted", "2"), ("rolled back", "1"), ("promoted", "2")], "2", "promoted", 4, 4),
        ([("promoted", "1"), ("promoted", "2"), ("rolled back", "1"), ("refused", "2")], "2", "refused", 4, 4),
        ([("promoted", "1"), ("promoted", "2"), ("refused", "1"), ("rolled back", "1")], "1", "promoted", 1, 3),
        ([("promoted", "1"), ("refused", "3"), ("promoted", "2"), ("rolled back", "1")], "3", "refused", 2, 2),
    ],
)
def test_where_a_version_stands(
    decisions: list[tuple[Action, str]], version: str, verdict: Verdict, by: int | None, own: int | None
) -> None:
    status = status_of(ledger(*decisions), version)
    numbers = [one.number if one is not None else None for one in (status.entry, status.own_entry)]
    assert (status.verdict, *numbers) == (verdict, by, own)


def test_a_rollback_concerns_both_whom_it_takes_back_and_whom_it_goes_back_to() -> None:
    entries = ledger(("promoted", "1"), ("promoted", "2"), ("rolled back", "1"))
    assert [event for event, _ in history_of(entries, "2")] == ["promoted", "rolled back"]
    assert [event for event, _ in history_of(entries, "1")] == ["promoted", "serves again"]


def test_what_was_decided_of_a_deleted_file_says_nothing_of_the_one_that_has_its_number_now() -> None:
    entries: list[Entry] = []
    decisions: list[tuple[Action, str, str]] = [
        ("promoted", "1", "a"),
        ("awaiting approval", "2", "b"),
        ("promoted", "3", "c"),
    ]
    for action, version, sha256 in decisions:
        draft = Draft(action, version, version, "somebody", [], {"sha256": sha256})
        entries.append(next_entry(entries, draft, when=""))
    assert current_entries(entries, {"1": "a", "2": "b", "3": "c"}) == entries
    # A version that was deleted alone keeps its number forever.
    assert champions(current_entries(entries, {"1": "a"})) == ["1", "3"]
    replaced = current_entries(entries, {"1": "other", "2": "other", "3": "c"})
    assert (champions(replaced), status_of(replaced, "2").verdict) == (["3"], "undecided")
    assert champions(current_entries(entries, {"1": "other", "2": "other", "3": "other"})) == []
