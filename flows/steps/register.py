"""Register the very file that would be served as a new version, with its lineage, once its package is checked."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from components.export.settings import after_epochs
from components.shared.files import sha256_of_file
from components.shared.processor import Processor
from flows.project.image_files import raw_files
from flows.registry.lineage import LINEAGE_TAG, write_version_lineage
from flows.registry.version_page import describe_model, show_page
from flows.session.session import Prepared, Session, StepTime, alone, open_session, timed
from flows.steps.quantize import Exported, served_file, up_to_exported
from flows.steps.task import step
from flows.tracking import registry
from flows.tracking.ledger import read_ledger
from flows.tracking.packaging import Package, write_package
from flows.tracking.serving_check import ServingCheck, check_package

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    version: str
    time: StepTime


@step("register")
def register_model(session: Session, prepared: Prepared, exported: Exported) -> Registered:
    """One version a file: the same file from the same run is not registered twice."""
    name = session.params.register.name
    with timed("register") as watch:
        file = served_file(session, exported)
        sha256 = sha256_of_file(file)
        with alone(session, sha256):
            found = registry.find_version(session.tracking, name, run_id=exported.run_id, sha256=sha256)
            # An older release registered files whose packages it hadn't checked.
            if found is None or registry.PACKAGE_TAG not in found.tags:
                found = _register(session, prepared, exported)
            else:
                watch.reused()
        watch.note = f"{name} version {found.number} ({exported.record['served']}, SHA-256 {sha256[:12]})"
    return Registered(found.number, watch.time())


def _register(session: Session, prepared: Prepared, exported: Exported) -> registry.Version:
    """The package is made once; what was checked is what is stored."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        file = served_file(session, exported)
        package = write_package(file, Path(scratch) / "package", run_id=exported.run_id)
        images = raw_files(session.project, "test", most=session.params.quantize.parity_images)
        check = check_package(package, images)
        if not check.passed:
            logger.warning(f"the package of {file.name} failed its serving check: {check.failures}")
        return _store(session, prepared, exported, package, check)


def _store(
    session: Session, prepared: Prepared, exported: Exported, package: Package, check: ServingCheck
) -> registry.Version:
    name, served = session.params.register.name, exported.record["served"]
    file, measured = served_file(session, exported), exported.record["formats"][served]
    sha256 = measured["sha256"]
    processor = str(Processor(**exported.record["processor"]))
    made = {
        "sha256": sha256,
        "served": served,
        "recipe": measured["recipe"],
        "qat_epochs": measured["qat_epochs"],
        "exported_on": processor,
    }
    place = write_version_lineage(
        session,
        prepared,
        exported.run_id,
        step=exported.step,
        export=file.with_name("export.json"),
        made=made | {registry.PACKAGE_TAG: package.sha256},
        check=check,
    )
    version = registry.register(
        session.tracking,
        name,
        run_id=exported.run_id,
        package=package,
        tags={
            "served": served,
            "step": exported.step,
            "sha256": sha256,
            "accuracy": f"{measured['test']['accuracy']:.6f}",
            "macro_f1": f"{measured['test']['macro_f1']:.6f}",
            "bytes": str(measured["bytes"]),
            "data_version": prepared.data_version,
            "split_digest": prepared.split_digest,
            "processor": processor,
            LINEAGE_TAG: place,
        },
        description=f"{served}{after_epochs(measured['qat_epochs'])}, ONNX of run {exported.run_id}; serving check "
        f"{'passed' if check.passed else 'failed'}; not judged yet",
    )
    describe_model(session.tracking, name, read_ledger(session.tracking, name))
    return version


@flow(name="register")
def register(overrides: list[str] | None = None, project: str | None = None) -> str:
    """Registers alone; what comes before is brought up to date first. Returns the version."""
    session = open_session(project, overrides, exports=True)
    prepared, exported = up_to_exported(session)
    number = register_model(session, prepared, exported).version
    show_page(session.project, registry.get_version(session.tracking, session.params.register.name, number))
    return number
