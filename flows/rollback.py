"""Take the champion back to the one before it, and write that down."""

from prefect import flow

from components.errors import SettingsError
from components.promotion.ledger import champions
from flows.promote import record_decision, registry_lock
from flows.session import open_session
from flows.tracking import registry


@flow(name="rollback")
def rollback(reason: str | None = None, project: str | None = None) -> dict[str, str]:
    """Returns the version that serves now and the one that did; raises SettingsError where there is no way back."""
    session = open_session(project)
    name = session.params.register.name
    with registry_lock(session.project):
        line = champions(registry.read_ledger(session.tracking, name))
        if len(line) < 2:
            raise SettingsError(f"{name} has no earlier champion to go back to; `darkroom models` lists what there is")
        back, away = line[-2], line[-1]
        record_decision(
            session,
            action="rolled back",
            version=back,
            reasons=[reason or f"version {away} was rolled back"],
            record={"from": away},
        )
    return {"champion": back, "was": away}
