"""Settings of Prefect that must stand in the environment before it is imported."""

from flows.console.logs import PACKAGES
from flows.project.project import Project


def prefect_variables(project: Project) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(project.home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # The page of a flow run shows what Darkroom logs in it.
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(PACKAGES),
        "PREFECT_LOGGING_HANDLERS_API_LEVEL": "INFO",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
