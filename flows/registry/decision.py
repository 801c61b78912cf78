"""Decisions about registered versions: promoted, awaiting approval, refused, rolled back.

All four come about in one way: drafted from the newest ledger, written, shown on MLflow's pages, and the aliases follow
from the ledger last. Whoever was stopped in between is completed by the next decision.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from filelock import FileLock

from components.promotion.ledger import Draft, Entry, Status, champions
from components.shared.errors import DarkroomError, SettingsError
from flows.project.model_names import require_same_model
from flows.project.project import Project, open_project
from flows.project.user import current_user
from flows.registry.version_page import describe_model, publish
from flows.tracking import ledger, registry
from flows.tracking.ledger import Ledger
from flows.tracking.registry import Version
from flows.tracking.runs import Tracking, existing_tracking

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decided:
    entry: Entry | None
    """The entry that was written; None where an earlier decision holds."""
    ledger: Ledger
    """As it is afterwards."""


@dataclass(frozen=True)
class Answered:
    """What a person answered to a version that waited for approval."""

    version: str
    status: str
    champion: str | None
    """The version that serves now."""


@dataclass(frozen=True)
class RolledBack:
    champion: str | None
    """The version that serves now."""
    was: str | None
    """The version that served before."""


def decide(
    project: Project,
    tracking: Tracking,
    name: str,
    draft: Callable[[Ledger], Draft | None],
    *,
    versions: Sequence[Version],
) -> Decided:
    """Writes what `draft` decides given the ledger; with None an earlier decision holds, and is only completed.

    `versions` are those whose pages may have to change. What `draft` raises is raised, with nothing written.
    """
    project.home.mkdir(parents=True, exist_ok=True)
    # No version is scored twice at once in this folder. Across machines the ledger keeps decisions in order.
    with FileLock(project.home / "registry.lock"):
        entry = ledger.write(tracking, name, draft)
        rolled_back = entry is not None and entry.action == "rolled back"
        if rolled_back:
            # A rollback is urgent: it waits for no page.
            ledger.sync_aliases(tracking, name)
        now = ledger.read_ledger(tracking, name)
        try:
            _show(tracking, name, versions, entry, now)
        except DarkroomError as problem:
            if not rolled_back:
                raise
            logger.warning(
                f"rolled back, but MLflow's pages could not be updated ({problem}); `darkroom models` shows the result"
            )
        ledger.sync_aliases(tracking, name)
    return Decided(entry, now)


def answer(name: str, number: str, *, action: Literal["promoted", "refused"], by: str | None, reason: str) -> Answered:
    """Promotes or refuses a version that waits for approval; SettingsError where it doesn't, with nothing changed.

    A version was compared with one champion: where another one serves by now, the gate has to decide again.
    """
    project = open_project()
    number = require_same_model(number, own=name, where="NAME")
    tracking = existing_tracking(project, name)
    if tracking is None:
        raise SettingsError(f"{name} has no version yet; `darkroom run` makes one")
    version = registry.get_version(tracking, name, number)
    who = by or current_user()
    ledger.sync_aliases(tracking, name)

    def draft(now: Ledger) -> Draft:
        return _answer(version, now, action, who, reason)

    entry = decide(project, tracking, name, draft, versions=[version]).entry
    assert entry is not None
    return Answered(version.number, entry.action, entry.champion)


def roll_back(project: Project, tracking: Tracking, name: str, *, reason: str | None) -> RolledBack:
    """Makes the champion before the current one serve again; SettingsError where there is none."""
    ledger.sync_aliases(tracking, name)
    before = ledger.read_ledger(tracking, name).champion
    registered = {version.number: version for version in registry.versions(tracking, name)}

    def draft(now: Ledger) -> Draft:
        if now.champion != before:
            raise SettingsError(
                f"{name} has another champion meanwhile ({_version(now.champion)} instead of {_version(before)}), so "
                "nothing was rolled back; `darkroom models` shows what happened"
            )
        back = _earlier_champion(name, champions(now.current), registered)
        return Draft(
            action="rolled back",
            version=back or str(before),
            champion=back,
            who=current_user(),
            reasons=[reason or "no reason was given"],
            record={"from": before, "run_id": registered[back].run_id if back else None},
        )

    decided = decide(project, tracking, name, draft, versions=list(registered.values()))
    return RolledBack(decided.entry.champion if decided.entry else None, before)


def _show(tracking: Tracking, name: str, versions: Sequence[Version], entry: Entry | None, now: Ledger) -> None:
    for version in versions:
        status = now.status(version.number)
        # By number: what was read back from JSON has lists for tuples.
        if entry is None or (status.entry is not None and status.entry.number == entry.number):
            publish(tracking, version, status)
    describe_model(tracking, name, now)


def _answer(version: Version, now: Ledger, action: Literal["promoted", "refused"], who: str, reason: str) -> Draft:
    status = now.status(version.number)
    waiting = status.entry
    if waiting is None or status.verdict != "awaiting approval":
        raise SettingsError(
            f"{version.name} version {version.number} doesn't wait for approval{_last_decision(status)}; "
            "`darkroom models` lists what does"
        )
    if action == "promoted" and now.champion != waiting.champion:
        raise SettingsError(
            f"{version.name} version {version.number} was compared with {_champion(waiting.champion)}, and "
            f"{_champion(now.champion)} serves by now; `darkroom promote --version {version.number}` compares it again"
        )
    verb = "approved" if action == "promoted" else "refused"
    return Draft(
        action=action,
        version=version.number,
        champion=version.number if action == "promoted" else now.champion,
        who=who,
        reasons=[f"{verb} by {who}: {reason}"],
        record=waiting.record | {"answers_entry": waiting.number},
    )


def _last_decision(status: Status) -> str:
    return f" (it was {status.verdict} by {status.entry.who})" if status.entry else " (the gate hasn't decided on it)"


def _champion(number: str | None) -> str:
    return f"version {number}" if number else "no champion"


def _version(number: str | None) -> str:
    return f"version {number}" if number else "none"


def _earlier_champion(name: str, line: Sequence[str], registered: dict[str, Version]) -> str | None:
    """The last champion before the current one that is still registered; None where the only champion was deleted."""
    earlier = [number for number in line[:-1] if number in registered]
    if earlier:
        return earlier[-1]
    if line and line[-1] not in registered:
        return None
    raise SettingsError(f"{name} has no earlier champion to go back to; `darkroom models` lists the versions")
