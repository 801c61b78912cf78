"""Take the champion back to the one before it, and write that down."""

import logging

from prefect import flow

from components.promotion.ledger import Draft, Entry, champions
from components.shared.errors import DarkroomError, SettingsError
from flows.registry.lock import registry_lock
from flows.registry.version_page import describe_model, publish
from flows.session.session import open_session
from flows.tracking import ledger, registry
from flows.tracking.ledger import Ledger
from flows.tracking.runs import Tracking

logger = logging.getLogger(__name__)


@flow(name="rollback")
def rollback(reason: str | None = None, project: str | None = None) -> dict[str, str | None]:
    """Returns the version that serves now and the one that did; raises SettingsError where there is no way back."""
    session = open_session(project)
    name, tracking = session.params.register.name, session.tracking
    with registry_lock(session.project):
        ledger.sync_aliases(tracking, name)
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
                reasons=[reason or "no reason was given"],
                record={"from": seen, "run_id": there[back].run_id if back else None},
            )

        entry = ledger.write(tracking, name, draft)
        ledger.sync_aliases(tracking, name)
        _tell_pages(tracking, name, list(there.values()), entry)
    return {"champion": entry.champion, "was": seen}


def _tell_pages(tracking: Tracking, name: str, versions: list[registry.Version], entry: Entry) -> None:
    """On those of the model and of the versions that were taken back; who serves is settled already, so it may fail."""
    now = ledger.read_ledger(tracking, name)
    try:
        describe_model(tracking, name, now)
        for version in versions:
            status = now.status(version.number)
            if status.entry == entry:
                publish(tracking, version, status)
    except DarkroomError as problem:
        logger.warning(f"it is rolled back, but MLflow's page doesn't say so yet ({problem}); `darkroom models` does")


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
