"""Take the champion back to the one before it, and write that down."""

from prefect import flow

from components.errors import SettingsError
from components.promotion.ledger import Draft, champions
from flows.promote import registry_lock
from flows.session import open_session
from flows.tracking import ledger, registry
from flows.tracking.ledger import Ledger


@flow(name="rollback")
def rollback(reason: str | None = None, project: str | None = None) -> dict[str, str | None]:
    """Returns the version that serves now and the one that did; raises SettingsError where there is no way back."""
    session = open_session(project)
    name, tracking = session.params.register.name, session.tracking
    with registry_lock(session.project):
        ledger.settle_aliases(tracking, name)
        seen = ledger.read_ledger(tracking, name).champion
        there = {version.number: version for version in registry.versions(tracking, name)}

        def draft(now: Ledger) -> Draft:
            if now.champion != seen:
                raise SettingsError(
                    f"{name} has another champion meanwhile ({_version(now.champion)} instead of {_version(seen)}), so "
                    "nothing was rolled back; `darkroom models` shows what happened"
                )
            back = _way_back(name, champions(now.standing), there)
            return Draft(
                action="rolled back",
                version=back or str(seen),
                champion=back,
                who=ledger.who_decides(),
                reasons=[reason or f"version {seen} was rolled back"],
                record={"from": seen, "run_id": there[back].run_id if back else None},
            )

        entry = ledger.write(tracking, name, draft)
        ledger.settle_aliases(tracking, name)
    return {"champion": entry.champion, "was": seen}


def _way_back(name: str, line: list[str], there: dict[str, registry.Version]) -> str | None:
    """The last champion before that is still registered; None, no champion at all, where the only one was deleted."""
    earlier = [number for number in line[:-1] if number in there]
    if earlier:
        return earlier[-1]
    if line and line[-1] not in there:
        return None
    raise SettingsError(f"{name} has no earlier champion to go back to; `darkroom models` lists what there is")


def _version(number: str | None) -> str:
    return f"version {number}" if number else "none"
