"""The lineage record that leads from the raw data to the served file, and the small files that reproduce a model."""

import io
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.raw.dataset import MANIFEST
from components.records.lineage import (
    LINEAGE,
    UNCOMMITTED,
    LineageRecord,
    Machine,
    PinnedWeights,
    RegisteredFile,
)
from components.shared.files import sha256_of_file, write_json, write_text
from components.shared.processor import this_processor
from flows.project.dvc import data_paths, version_files
from flows.project.fingerprint import CODE_ROOT, code_digest, package_version
from flows.project.params import resolved_text
from flows.project.project import Project
from flows.session.session import Session
from flows.tracking import runs
from flows.tracking.registry import Version
from flows.tracking.runs import Tracking
from flows.tracking.serving_check import SERVING_CHECK, ServingCheck

if TYPE_CHECKING:
    from flows.session.session import Prepared

PACKAGES = (
    *("torch", "torchvision", "timm", "lightning", "albumentations", "onnx", "onnxruntime"),
    *("dvc", "mlflow", "prefect"),
)


_SPLIT = "split.parquet"
REFERENCE = "reference"
"""Below the lineage of a run: the reference files that people supplied."""
LINEAGE_TAG = "lineage"
"""Of a registered version: where its run keeps the version's own lineage."""
_KEPT_BYTES = 1 << 20


def write_lineage(
    session: Session,
    prepared: "Prepared",
    folder: Path,
    *,
    initial_weights: Mapping[str, PinnedWeights] | None = None,
    members: Sequence[str] = (),
) -> LineageRecord:
    """Writes the files that pin data and settings, the split with its leak proof, reference files, and the record."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    paths = data_paths(session.project)
    for source in (
        *(file for file in version_files(session.project) if file != session.project.params),
        paths.split / _SPLIT,
        paths.split / "leakage.json",
        paths.report,
    ):
        shutil.copyfile(source, folder / source.name)
    write_text(folder / session.project.params.name, resolved_text(session.project.params, session.params))
    left_out = _keep_reference(paths.reference, folder / REFERENCE)
    record = LineageRecord(
        git=git_state(session.project),
        code=code_digest(CODE_ROOT),
        data_version=prepared.data_version,
        raw_manifest=sha256_of_file(paths.raw / MANIFEST),
        split_digest=prepared.split_digest,
        params=session.params.as_record(),
        packages={name: package_version(name) for name in PACKAGES},
        python=platform.python_version(),
        machine=Machine(platform.system(), str(this_processor())),
        reference_left_out=left_out,
        initial_weights=dict(initial_weights or {}),
        members=list(members),
    )
    record.write(folder / LINEAGE)
    return record


def write_version_lineage(
    session: Session,
    prepared: "Prepared",
    file: RegisteredFile,
    *,
    step: str,
    export: Path,
    check: ServingCheck,
) -> str:
    """Keeps the lineage of a file that is about to be registered; returns its place with the run.

    Data that changed without changing what training reads leave the trained model as it was, and so may other settings
    of evaluation and export: the version is of the current data and settings. What the training alone knows (the
    network, where it started, the machine it ran on) is taken over from its own record. `export` is the record of the
    export, which another export of the run would replace, and `check` is of the file's package.
    """
    place = f"registered-{file.sha256[:12]}"
    folder = runs.new_folder(session.tracking, file.run_id, place)
    trained = LineageRecord.read(runs.fetch(session.tracking, file.run_id, "lineage", step=step) / LINEAGE)
    now = write_lineage(session, prepared, folder)
    of_training = {name: getattr(trained, name) for name in ("machine", "initial_weights", "members")}
    params = now.params | {"model": trained.params["model"]}
    now.model_copy(update=of_training | {"params": params, "file": file}).write(folder / LINEAGE)
    shutil.copyfile(export, folder / export.name)
    write_json(folder / SERVING_CHECK, check.as_record())
    runs.store(session.tracking, file.run_id, folder, place)
    return place


def version_lineage(tracking: Tracking, version: Version) -> Path:
    """Folder with the files that pin a registered version."""
    place = version.tags.get(LINEAGE_TAG, "lineage")
    return runs.fetch(tracking, version.run_id, place, step=version.tags.get("step", "train"))


def training_lineage(tracking: Tracking, version: Version) -> Path:
    """Folder with the lineage of the training behind a version."""
    return runs.fetch(tracking, version.run_id, "lineage", step=version.tags["step"])


def images_of(lineage: Path, splits: tuple[str, ...]) -> set[str]:
    """SHA-256 of each image that a version had in these splits when it was trained."""
    split = pq.read_table(lineage / _SPLIT, columns=["sha256", "split"])
    return {row["sha256"] for row in split.to_pylist() if row["split"] in splits}


def known_images(session: Session, version: Version, splits: tuple[str, ...]) -> set[str]:
    """The same, with the current images that are near duplicates of one of them, or of its group."""
    known = images_of(training_lineage(session.tracking, version), splits)
    split = pq.read_table(data_paths(session.project).split / _SPLIT, columns=["sha256", "cluster"])
    return known | with_clusters(split, known)


def with_clusters(split: pa.Table, known: set[str]) -> set[str]:
    """SHA-256 of each image in a cluster that holds a known one; the split keeps clusters together."""
    rows = list(zip(split["sha256"].to_pylist(), split["cluster"].to_pylist(), strict=True))
    clusters = {cluster for sha256, cluster in rows if sha256 in known}
    return {sha256 for sha256, cluster in rows if cluster in clusters}


def _keep_reference(reference: Path, target: Path) -> dict[str, str]:
    """Corrections and accepted profiles are small; a model of features is not, and stays where it is.

    Returns the SHA-256 of each file that stays, by name.
    """
    left_out = {}
    for file in sorted(reference.glob("*")):
        if file.is_file() and file.stat().st_size <= _KEPT_BYTES:
            target.mkdir(exist_ok=True)
            shutil.copyfile(file, target / file.name)
        elif file.is_file():
            left_out[file.name] = sha256_of_file(file)
    return left_out


def git_state(project: Project) -> str:
    """The revision, with +changes where the working tree differs from it; unknown outside of git."""
    try:
        revision = _git(project, "rev-parse", "HEAD").decode().strip()
        return revision + (UNCOMMITTED if _git(project, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def unpack_revision(project: Project, revision: str, target: Path) -> bool:
    """The project's files at a revision, without touching the working tree or its index; False where git lacks it."""
    try:
        below = _git(project, "rev-parse", "--show-prefix").decode().strip()
        packed = _git(project, "archive", "--format=tar", f"{revision}:{below}")
    except (OSError, subprocess.CalledProcessError):
        return False
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        # Python before 3.11.4 knows no filters; git's own archive can do without.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(target)
    return True


def _git(project: Project, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=project.root, capture_output=True, check=True).stdout


def lineage_of(tracking: Tracking, version: Version) -> LineageRecord:
    """The record of a registered version."""
    return LineageRecord.read(version_lineage(tracking, version) / LINEAGE)
