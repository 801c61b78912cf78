"""The rollback of the champion as a Prefect flow, which its page records."""

from prefect import flow

from flows.registry.decision import RolledBack, roll_back
from flows.session.session import open_session


@flow(name="rollback")
def rollback(reason: str | None = None, project: str | None = None) -> RolledBack:
    """Returns the version that serves now and the one that did; raises SettingsError where there is no way back."""
    session = open_session(project)
    return roll_back(session.project, session.tracking, session.params.register.name, reason=reason)
