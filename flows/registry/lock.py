"""One decision at a time in a project folder."""

from filelock import FileLock

from flows.project.project import Project


def registry_lock(project: Project) -> FileLock:
    """One decision at a time in this folder: a version isn't judged twice. Across machines the ledger sees to it."""
    project.home.mkdir(parents=True, exist_ok=True)
    return FileLock(project.home / "registry.lock")
