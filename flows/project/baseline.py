"""The baseline: the profile of a data version that drift is measured against."""

from dataclasses import dataclass

from components.shared.errors import DataError
from components.shared.files import read_json, write_json
from flows.project.dvc import data_paths, data_version
from flows.project.project import Project


@dataclass(frozen=True)
class Baseline:
    baseline_images: int


def set_baseline(project: Project) -> Baseline:
    """Stores the profile of the current data as the baseline; raises DataError where validation has not passed."""
    paths = data_paths(project)
    profile = paths.validated / "profile.json"
    if not profile.exists() or not paths.report.exists():
        raise DataError("there is no validated data yet; run `darkroom prepare` first")
    if not read_json(paths.report)["passed"]:
        raise DataError(f"the current data fails validation, so it can't be the baseline; see {paths.report}")
    record = read_json(profile) | {"data_version": data_version(project)}
    write_json(paths.reference / "baseline.json", record)
    return Baseline(record["num_images"])
