"""Accepting the data at hand: from now on drift is measured against it."""

from typing import Any

from components.shared.errors import DataError
from components.shared.files import read_json, write_json
from flows.project.dvc import data_paths, data_version
from flows.project.project import Project


def accept(project: Project) -> dict[str, Any]:
    """Keeps the profile of the validated data and its version; raises DataError where it isn't fit for that."""
    paths = data_paths(project)
    profile = paths.validated / "profile.json"
    if not profile.exists() or not paths.report.exists():
        raise DataError("there is no validated data yet; run `darkroom prepare` first")
    if not read_json(paths.report)["passed"]:
        raise DataError(
            f"the data at hand breaks validation, and can't be what others are measured by; see {paths.report}"
        )
    record = read_json(profile) | {"data_version": data_version(project)}
    write_json(paths.judged / "accepted.json", record)
    return {"accepted_images": record["num_images"]}
