"""What a version needs to be trained again besides code and data: files of the project, and its initial models.

Both are pinned in the lineage of the version, and are copied into a project of their own.
"""

import shutil
from pathlib import Path

from components.models.catalogue import IMAGENET, REGISTERED
from components.records.lineage import LineageRecord
from components.shared.errors import SettingsError
from components.shared.files import sha256_of_file
from flows.project.dvc import data_paths
from flows.project.model_names import parse_address
from flows.project.project import Project
from flows.registry.initial_weights import SPEC, RegisteredModel, weights_fingerprint
from flows.tracking import runs
from flows.tracking.connection import artifact_folder, database_uri
from flows.tracking.model_copies import ModelCopy, copy_models
from flows.tracking.runs import Tracking

WEIGHTS, TEACHER = "model.weights", "train.teacher"


def bring_files(project: Project, lineage: LineageRecord, again: Project, *, who: str) -> None:
    """Copies initial weights, large reference files and OOD images from the project into `again`.

    Raises SettingsError that names what is missing or has changed.
    """
    params, pinned = lineage.params, lineage.initial_weights
    weights, ood = params["model"]["weights"], params["evaluate"].get("ood")
    if weights is not None and weights != IMAGENET and not weights.startswith(REGISTERED):
        _require(project.root / weights, f"{who} was trained from {weights} (model.weights)")
        if WEIGHTS in pinned and weights_fingerprint(project.root / weights) != pinned[WEIGHTS].fingerprint:
            raise _changed(f"{who} was trained from {weights} (model.weights)")
        for file in (Path(weights), Path(weights).with_name(SPEC)):
            _copy(project, file, again, who=who)
    if ood is not None:
        _require(project.root / ood, f"{who} was evaluated beside the images in {ood} (evaluate.ood)")
        _copy(project, Path(ood), again, who=who)
    reference = data_paths(project).reference
    for name, sha256 in lineage.reference_left_out.items():
        what = f"{who} needs {reference.relative_to(project.root) / name}"
        _require(reference / name, what)
        if sha256_of_file(reference / name) != sha256:
            raise _changed(what)
        target = data_paths(again).reference / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(reference / name, target)


def bring_models(tracking: Tracking, lineage: LineageRecord, again: Project, *, who: str) -> None:
    """Copies the registered models that it was trained from into the registry of `again`, under the same names.

    Raises SettingsError where one of them is missing or has changed.
    """
    params, pinned = lineage.params, lineage.initial_weights
    copies = []
    for setting, address in ((WEIGHTS, params["model"]["weights"]), (TEACHER, params["train"].get("teacher"))):
        if address is None or not address.startswith(REGISTERED):
            continue
        pin = pinned[setting]
        assert pin.model is not None  # a registered model has both
        assert pin.run_id is not None
        step = runs.step_of(tracking, pin.run_id)
        if step is None:
            raise _gone(f"{who} was trained with {pin.model} ({setting})")
        folder = runs.fetch(tracking, pin.run_id, "model", step=step)
        if RegisteredModel(pin.run_id, pin.model, folder).fingerprint != pin.fingerprint:
            raise _changed(f"{who} was trained with {pin.model} ({setting})")
        name, wanted = parse_address(address, setting=setting)
        number = parse_address(pin.model, setting=setting)[1]
        copies.append(ModelCopy(name, int(number), None if wanted.isdigit() else wanted, step, folder))
    if copies:
        copy_models(database_uri(again), artifact_folder(again), copies)


def _copy(project: Project, path: Path, again: Project, *, who: str) -> None:
    """Copies a file or folder of the project; an absolute path is left where it is, and read there."""
    if path.is_absolute():
        return
    source, target = project.root / path, again.root / path
    if not target.resolve().is_relative_to(again.root.resolve()):
        raise SettingsError(f"{who} can't be reproduced: {path} leads out of the project; bring it inside")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.is_file():
        shutil.copyfile(source, target)


def _require(path: Path, what: str) -> None:
    if not path.exists():
        raise _gone(what)


def _gone(what: str) -> SettingsError:
    return SettingsError(f"{what}, which isn't there any more; bring it back to reproduce the version")


def _changed(what: str) -> SettingsError:
    return SettingsError(f"{what}, which has changed since; bring back what it was to reproduce the version")
