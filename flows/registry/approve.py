"""A person's word on a version that passed the gate where params.yaml says promote.approval."""

from dataclasses import dataclass
from typing import Any, Literal

from components.promotion.ledger import Draft, Status
from components.shared.errors import SettingsError
from flows.project.model_names import require_same_model
from flows.project.project import open_project
from flows.registry.version_page import describe_model, publish
from flows.tracking import ledger, registry
from flows.tracking.ledger import Ledger
from flows.tracking.runs import existing_tracking

Answer = Literal["promoted", "refused"]


@dataclass(frozen=True)
class _Person:
    who: str
    reason: str


def answer(name: str, number: str, *, said: Answer, by: str | None, reason: str) -> dict[str, Any]:
    """Promotes or refuses a version that waits; raises SettingsError, with nothing moved, where it can't be answered.

    A version was judged against one champion: where another one serves meanwhile, it has to be judged again.
    """
    number = require_same_model(number, own=name, where="NAME")
    tracking = existing_tracking(open_project(), name)
    if tracking is None:
        raise SettingsError(f"{name} has no version yet; `darkroom run` makes one")
    version = registry.get_version(tracking, name, number)
    person = _Person(by or ledger.who_decides(), reason)
    ledger.sync_aliases(tracking, name)
    entry = ledger.write(tracking, name, lambda now: _draft(version, now, said, person))
    after = ledger.read_ledger(tracking, name)
    publish(tracking, version, after.status(version.number))
    describe_model(tracking, name, after)
    ledger.sync_aliases(tracking, name)
    return {"version": version.number, "status": entry.action, "champion": entry.champion}


def _draft(version: registry.Version, now: Ledger, said: Answer, person: _Person) -> Draft:
    status = now.status(version.number)
    waiting = status.entry
    if waiting is None or status.verdict != "awaiting approval":
        raise SettingsError(
            f"{version.name} version {version.number} doesn't wait for approval{_last_word(status)}; "
            "`darkroom models` lists what does"
        )
    if said == "promoted" and now.champion != waiting.champion:
        raise SettingsError(
            f"{version.name} version {version.number} was judged against {_champion(waiting.champion)}, and "
            f"{_champion(now.champion)} serves meanwhile; `darkroom promote --version {version.number}` judges it again"
        )
    verb = "approved" if said == "promoted" else "refused"
    return Draft(
        action=said,
        version=version.number,
        champion=version.number if said == "promoted" else now.champion,
        who=person.who,
        reasons=[f"{verb} by {person.who}: {person.reason}"],
        record=waiting.record | {"answers_entry": waiting.number},
    )


def _last_word(status: Status) -> str:
    return f" (it was {status.verdict} by {status.entry.who})" if status.entry else " (the gate hasn't judged it)"


def _champion(number: str | None) -> str:
    return f"version {number}" if number else "no champion"
