"""Settings of Prefect that must stand in the environment before it is imported."""

from flows.project.project import Project


def prefect_variables(project: Project) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(project.home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
