"""Register the very file that would be served as a new version, with its lineage, once its package is checked."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.export.settings import after_epochs
from components.records.export import EXPORT
from components.records.lineage import RegisteredFile
from components.shared.files import sha256_of_file
from flows.project.image_files import raw_files
from flows.registry.lineage import LINEAGE_TAG, write_version_lineage
from flows.registry.version_page import describe_model
from flows.session.session import Prepared, Session, Stopwatch, exclusive
from flows.steps.quantize import Exported, served_file
from flows.steps.step import Results, TimedStep
from flows.tracking import registry
from flows.tracking.ledger import read_ledger
from flows.tracking.packaging import Package, write_package
from flows.tracking.serving_check import ServingCheck, check_package

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """The registered version of the file that would be served."""

    version: str


class Register(TimedStep[Registered]):
    """Registers one version for each file: the same file of the same run is not registered twice."""

    name = "register"
    exports = True

    def find_or_work(self, session: Session, results: Results, watch: Stopwatch) -> Registered:
        name, exported = session.params.register.name, results[Exported]
        sha256 = sha256_of_file(served_file(session, exported))
        with exclusive(session.project, sha256):
            found = registry.find_version(session.tracking, name, run_id=exported.run_id, sha256=sha256)
            if found is None:
                found = _register(session, results[Prepared], exported)
            else:
                watch.reused("")
        watch.note = f"{name} version {found.number} ({exported.record.served}, SHA-256 {sha256[:12]})"
        return Registered(found.number)


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
    name, served = session.params.register.name, exported.record.served
    file, served_as = served_file(session, exported), exported.record.formats[served]
    sha256 = served_as.sha256
    processor = str(exported.record.processor)
    registered = RegisteredFile(
        run_id=exported.run_id,
        sha256=sha256,
        served=served,
        recipe=served_as.measured.recipe,
        qat_epochs=served_as.measured.qat_epochs,
        exported_on=processor,
        package_sha256=package.sha256,
    )
    place = write_version_lineage(
        session, prepared, registered, step=exported.step, export=file.with_name(EXPORT), check=check
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
            "accuracy": f"{served_as.test.values['accuracy']:.6f}",
            "macro_f1": f"{served_as.test.values['macro_f1']:.6f}",
            "bytes": str(served_as.measured.size_bytes),
            "data_version": prepared.data_version,
            "split_digest": prepared.split_digest,
            "processor": processor,
            LINEAGE_TAG: place,
        },
        description=f"{served}{after_epochs(served_as.measured.qat_epochs)}, ONNX of run {exported.run_id}; serving "
        f"check {'passed' if check.passed else 'failed'}; no gate decision yet",
    )
    describe_model(session.tracking, name, read_ledger(session.tracking, name))
    return version
