"""Trains a registered version again, from its own data, settings and code, and reports what differs."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from components.evaluation.reproduction_diff import Finding, compare_exports, compare_records, compare_weights, outcome
from components.records.export import EXPORT, ExportRecord
from components.records.lineage import LINEAGE, LineageRecord
from components.shared.errors import DarkroomError, SettingsError
from components.shared.files import sha256_of_file
from flows.console.tables import show_table
from flows.project.dvc import check_out_version, data_paths, lock_digest, restore_raw
from flows.project.fingerprint import CODE_ROOT, code_digest
from flows.project.model_names import parse_version, require_same_model
from flows.project.project import HOME_VARIABLE, Project, open_project
from flows.registry.checkout import bring_files, bring_models
from flows.registry.lineage import unpack_revision, version_lineage
from flows.registry.versions import model_name
from flows.tracking import registry, runs
from flows.tracking.connection import database_uri

logger = logging.getLogger(__name__)

_FROM_LINEAGE = ("data_version", "split_digest", "raw_manifest")


@dataclass(frozen=True)
class Reproduction:
    """What a repeated training found."""

    version: str
    same: bool
    """Whether nothing differs."""
    outcome: str
    """A sentence for people."""
    findings: list[Finding]


def reproduce_version(number: str, *, name: str | None, show: bool) -> Reproduction:
    """Trains the version again and compares; the registry and the project stay unchanged.

    Raises SettingsError where the code of the version is gone, DataError where its data is.
    """
    project = open_project()
    model, number = parse_version(number, own=name or model_name(project))
    if name is not None:
        require_same_model(f"{model}/{number}", own=name, where="--name")
    tracking = runs.existing_tracking(project, model)
    if tracking is None:
        raise SettingsError(f"{model} has no version yet; `darkroom run` makes one")
    version = registry.require_ours(registry.get_version(tracking, model, number))
    if version.tags.get("step") == "ensemble":
        raise SettingsError(
            f"{model} version {version.number} is an ensemble, which isn't trained; reproduce its members"
        )
    kept = version_lineage(tracking, version)
    project.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reproduce-", dir=project.work) as scratch:
        again = Project(Path(scratch) / "project", Path(scratch) / "home")
        _check_out(project, version, kept, again)
        bring_models(tracking, LineageRecord.read(kept / LINEAGE), again, who=_who(version))
        _train(project, again)
        findings = list(_findings(tracking, version, kept, again))
    if show:
        rows = [(_state(one), one.what, one.then, one.now) for one in findings]
        show_table(f"{model} version {version.number}, trained again", ("", "what", "then", "now"), rows)
    return Reproduction(version.number, all(one.same for one in findings), outcome(findings), findings)


def _who(version: registry.Version) -> str:
    return f"{version.name} version {version.number}"


def _state(finding: Finding) -> str:
    return "same" if finding.same else "chosen by time" if finding.chosen_by_time else "differs"


def _check_out(project: Project, version: registry.Version, kept: Path, again: Project) -> None:
    lineage = LineageRecord.read(kept / LINEAGE)
    again.root.mkdir()
    said = _code(project, version, lineage, again.root)
    check_out_version(again, kept, like=project)
    bring_files(project, lineage, again, who=_who(version))
    restore_raw(again)
    logger.info(f"version {version.number} is checked out: {said}, data version {lineage.data_version[:12]}")


def _code(project: Project, version: registry.Version, lineage: LineageRecord, target: Path) -> str:
    """Puts the code of the version below the target; says where it is from."""
    if code_digest(CODE_ROOT) == lineage.code:
        for folder in ("components", "flows"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CODE_ROOT / folder, target / folder, ignore=ignored)
        return "the current code, which is the same"
    who = _who(version)
    if lineage.git == "unknown":
        raise SettingsError(
            f"{who} can't be reproduced: it was trained outside of git, by other code than the current; commit the "
            "code before training, so that its revision is known"
        )
    revision = lineage.revision
    if not unpack_revision(project, revision, target):
        raise SettingsError(
            f"{who} can't be reproduced: its git revision {revision[:12]} isn't in this repository; fetch it with "
            "`git fetch`"
        )
    if code_digest(target) != lineage.code:
        raise SettingsError(
            f"{who} can't be reproduced: it was trained at revision {revision[:12]} with changes of the code that "
            "were never committed; commit the code before training"
        )
    return f"revision {revision[:12]}"


def _train(project: Project, again: Project) -> None:
    """In a process of its own, for it runs other code; on a tracking database of its own."""
    environment = {
        **os.environ,
        HOME_VARIABLE: str(again.home),
        "MLFLOW_TRACKING_URI": database_uri(again),
        # Its database is made already, which takes a while.
        "PREFECT_HOME": os.environ.get("PREFECT_HOME", str(project.home / "prefect")),
    }
    command = [sys.executable, "-m", "flows.cli.main", "quantize", "--json"]
    process = subprocess.Popen(
        command, cwd=again.root, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # It ends within seconds, with all that works for it.
        process.terminate()
        process.wait()
        raise
    if code != 0:
        raise DarkroomError("training again stopped before its end; the reason stands above")


def _findings(tracking: runs.Tracking, version: registry.Version, kept: Path, again: Project) -> Iterator[Finding]:
    made = next((again.home / "work" / "runs").glob("*/export/export.json")).parents[1]
    step = version.tags.get("step", "train")
    record = next((again.home / "work" / step).glob("*/lineage/lineage.json"))
    then, now = LineageRecord.read(kept / LINEAGE), LineageRecord.read(record)
    yield from compare_records("data", _data(kept, then), _data(again.root, now))
    yield from compare_records("settings", then.params, now.params)
    yield from compare_records("packages", then.packages, now.packages)
    yield from compare_records("machine", *(asdict(one.machine) | {"python": one.python} for one in (then, now)))
    weights = runs.fetch(tracking, version.run_id, "model", step=step)
    yield compare_weights(_weights(weights), _weights(made / "model"))
    export = _export(tracking, version, kept, again.home / "then")
    yield from compare_exports(
        export,
        made / "export",
        repeat=partial(_int8_again, again, made / "export", now.params["quantize"]["calibration_images"]),
    )


def _int8_again(again: Project, export: Path, images: int, way: str) -> Path | None:
    """The repeated model in a way to int8 that wasn't chosen this time; the code of then may know other ways."""
    if code_digest(again.root) != code_digest(CODE_ROOT):
        return None
    from components.data.packed.loaders import open_split
    from components.export.repeat_int8 import repeat_int8

    augmented, target = data_paths(again).augmented, again.home / f"model_{way}.onnx"
    made = repeat_int8(
        way,
        export / "model_fp32.onnx",
        target,
        train=open_split(augmented, "train"),
        val=open_split(augmented, "val"),
        images=images,
    )
    return target if made else None


def _export(tracking: runs.Tracking, version: registry.Version, kept: Path, folder: Path) -> Path:
    """The export that the version is from: its record, and the files of it that are still kept.

    Another export of the same run took the place of those that weren't registered.
    """
    latest = runs.fetch(tracking, version.run_id, "export", step="quantize")
    folder.mkdir()
    shutil.copyfile(kept / EXPORT, folder / EXPORT)
    for name, one in ExportRecord.read(kept / EXPORT).formats.items():
        file = f"model_{name}.onnx"
        if one.sha256 == version.sha256:
            shutil.copyfile(registry.fetch_model(tracking, version), folder / file)
        elif (latest / file).exists() and sha256_of_file(latest / file) == one.sha256:
            shutil.copyfile(latest / file, folder / file)
    return folder


def _data(folder: Path, lineage: LineageRecord) -> dict[str, str]:
    """Digests of the data on its way from raw to packed."""
    digests = {stage: lock_digest(folder / "dvc.lock", stage) for stage in ("validate", "split", "augment")}
    return {name: getattr(lineage, name) for name in _FROM_LINEAGE} | digests


def _weights(model: Path) -> Path:
    return next(model.glob("*.safetensors"))
