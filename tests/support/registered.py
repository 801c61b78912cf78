"""A registered version that the ledger promoted, of a package that is made once."""

from pathlib import Path

from components.promotion.ledger import Draft
from components.shared.files import sha256_of_file
from flows.project.project import open_project
from flows.tracking import ledger, registry, runs
from flows.tracking.packaging import Package


def promoted_version(
    folder: Path, package: Package, *, name: str = "digits", promoted: bool = True
) -> registry.Version:
    """A run with a file, and a version of the package, in the project of this folder."""
    tracking = runs.open_tracking(open_project(folder), name)
    run_id = tracking.client.create_run(tracking.experiment_id).info.run_id
    runs.store(tracking, run_id, package.model_file, "model")
    sha256 = sha256_of_file(package.model_file)
    tags = {"served": "int8", "step": "train", "data_version": "d", "split_digest": "s", "sha256": sha256}
    version = registry.register(tracking, name, run_id=run_id, package=package, tags=tags, description="")
    if promoted:
        draft = Draft("promoted", version.number, version.number, "a test", ["it passes"], {"sha256": sha256})
        ledger.write(tracking, name, lambda _: draft)
        ledger.sync_aliases(tracking, name)
    return version
