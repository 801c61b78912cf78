"""Registered versions and the files that they hold."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import DarkroomError, ServiceError, SettingsError, nearest
from components.shared.files import sha256_of_file
from flows.tracking.ledger import CHAMPION, aliases, read_ledger
from flows.tracking.packaging import Package, package_sha256
from flows.tracking.runs import Tracking

_FILE_NAME = "file"
_MLMODEL = "MLmodel"
_SHA256 = re.compile("[0-9a-f]{64}")
_OUR_TAGS = ("served", "step", "sha256", "data_version", "split_digest", _FILE_NAME)
PACKAGE_TAG = "package_sha256"
"""Of a registered version: the digest of its package, which a clean process has checked."""
STATUS_TAG = "status"
"""Of a registered version: where it stands by the ledger, such as `promoted`."""
DESCRIPTION_LETTERS = 5000
"""What the description of a version holds at most."""


class NotStored(ServiceError):
    """A version's file or package isn't in the store, or can't be fetched from it."""


@dataclass(frozen=True)
class Version:
    name: str
    number: str
    run_id: str
    sha256: str
    tags: dict[str, str]
    aliases: list[str]


def register(
    tracking: Tracking,
    name: str,
    *,
    run_id: str,
    package: Package,
    tags: dict[str, str],
    description: str,
) -> Version:
    """A new version that holds exactly this package; raises ServiceError where it has changed since it was made."""
    import mlflow
    from mlflow.models import Model

    with mlflow.start_run(run_id=run_id):
        info = Model.log(None, _AsPacked(package), name="served", flavor_name=mlflow.pyfunc.__name__)
    if not _exists(tracking, name):
        tracking.client.create_registered_model(name)
    version = tracking.client.create_model_version(
        name,
        source=info.model_uri,
        run_id=run_id,
        tags={**tags, _FILE_NAME: package.model_file.name, PACKAGE_TAG: package.sha256},
        description=description,
        model_id=info.model_id,
    )
    return get_version(tracking, name, str(version.version))


class _AsPacked:
    """Takes the place of a flavour's module: where MLflow would have a model saved, it copies the package."""

    def __init__(self, package: Package) -> None:
        self._package = package

    def save_model(self, path: str, mlflow_model: Any) -> None:
        """Raises ServiceError where the copy, which MLflow then stores, isn't what was packed."""
        del mlflow_model
        shutil.copytree(self._package.folder, path)
        if package_sha256(Path(path)) != self._package.sha256:
            raise ServiceError(
                f"the package of {self._package.model_file.name} isn't the one that was checked: its SHA-256 differs; "
                "register it again"
            )


def get_version(tracking: Tracking, name: str, wanted: str) -> Version:
    """By number or alias; raises SettingsError where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        holders = aliases(tracking, name)
        # Asked for an alias, MLflow would answer @latest with the newest version, which no gate has let through.
        found = tracking.client.get_model_version(name, wanted if wanted.isdigit() else holders[wanted])
    except (MlflowException, KeyError):
        raise SettingsError(_not_there(tracking, name, wanted)) from None
    return _version(found, holders)


def require_ours(version: Version) -> Version:
    """The version, with the tags that `register` gives; raises SettingsError where somebody else registered it."""
    missing = [name for name in _OUR_TAGS if name not in version.tags]
    if missing or not version.run_id:
        raise SettingsError(
            f"{version.name} version {version.number} was not registered by Darkroom (it lacks "
            f"{', '.join(missing) or 'its run'}); `darkroom register` registers a model"
        )
    return version


def versions(tracking: Tracking, name: str) -> list[Version]:
    """All versions, newest first; none where the name was never registered."""
    if not _exists(tracking, name):
        return []
    holders = aliases(tracking, name)
    found = tracking.client.search_model_versions(f"name = '{name}'")
    return sorted((_version(one, holders) for one in found), key=lambda version: -int(version.number))


def champion(tracking: Tracking, name: str) -> Version | None:
    """The version that serves, or None."""
    return next((version for version in versions(tracking, name) if CHAMPION in version.aliases), None)


def find_version(tracking: Tracking, name: str, *, run_id: str, sha256: str) -> Version | None:
    """The newest one that holds this file of this run."""
    known = versions(tracking, name)
    return next((version for version in known if (version.run_id, version.sha256) == (run_id, sha256)), None)


def fetch_model(tracking: Tracking, version: Version) -> Path:
    """A local copy of the version's ONNX file, its SHA-256 checked against the registered one."""
    import mlflow
    from mlflow.exceptions import MlflowException

    if not _SHA256.fullmatch(version.sha256):
        raise ServiceError(
            f"version {version.number} of {version.name} has no SHA-256 that its file could be checked against"
        )
    local = tracking.work / "models" / version.sha256 / "model.onnx"
    if not local.exists() or sha256_of_file(local) != version.sha256:
        try:
            found = mlflow.artifacts.download_artifacts(
                f"models:/{version.name}/{version.number}/artifacts/{version.tags[_FILE_NAME]}",
                dst_path=str(local.parent),
            )
        except (MlflowException, OSError) as problem:
            raise NotStored(f"the file of version {version.number} can't be fetched: {problem}") from None
        Path(found).replace(local)
    if sha256_of_file(local) != version.sha256:
        raise ServiceError(
            f"the file of version {version.number} isn't the one that was registered: its SHA-256 differs"
        )
    return local


def require_package(tracking: Tracking, version: Version) -> str:
    """The digest of the version's package; raises ServiceError where the registry holds another one, or none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        try:
            mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.number}", dst_path=scratch)
        except (MlflowException, OSError) as problem:
            raise NotStored(f"the package of version {version.number} can't be fetched: {problem}") from None
        # From a folder that is gone MLflow fetches nothing, without a word.
        if not Path(scratch, _MLMODEL).is_file():
            raise NotStored(f"the package of version {version.number} is missing from the artifact store")
        found = package_sha256(Path(scratch))
    if found != version.tags.get(PACKAGE_TAG):
        raise ServiceError(
            f"the package of version {version.number} isn't the one that was checked: its SHA-256 differs; register "
            "the model again"
        )
    return found


def annotate(
    tracking: Tracking,
    version: Version,
    *,
    tags: dict[str, str],
    without: Sequence[str] = (),
    description: str | None = None,
) -> None:
    """Sets tags of a version, takes away those that it has of `without`, and sets its description."""
    name, number = version.name, version.number
    for key in set(without) & set(version.tags):
        tracking.client.delete_model_version_tag(name, number, key)
    for key, value in tags.items():
        tracking.client.set_model_version_tag(name, number, key, value)
    if description is not None:
        tracking.client.update_model_version(name, number, description)


def _not_there(tracking: Tracking, name: str, wanted: str) -> str:
    """The sentence, with what comes nearest to it."""
    if not _exists(tracking, name):
        known = [model.name for model in tracking.client.search_registered_models()]
        return f"the registry has no model {name}{nearest(name, known) or '; `darkroom models` lists what there is'}"
    if wanted.isdigit():
        return f"{name} has no version {wanted} in the registry; `darkroom models` lists what there is"
    if wanted == CHAMPION:
        return _no_champion(tracking, name)
    hint = nearest(wanted, aliases(tracking, name)) or "; `darkroom models` lists what there is"
    return f"{name} has no alias @{wanted} in the registry{hint}"


def _no_champion(tracking: Tracking, name: str) -> str:
    """Deleting a version takes its alias with it, without a word; the ledger knows which one it was."""
    deleted = read_ledger(tracking, name).champion
    if deleted is not None:
        return champion_deleted(name, deleted)
    return f"{name} has no champion: no version was promoted; `darkroom models` says why, and lists what there is"


def champion_deleted(name: str, number: str) -> str:
    return (
        f"the champion, {name} version {number}, was deleted from the registry; `darkroom rollback` goes back to the "
        "champion before it"
    )


def _exists(tracking: Tracking, name: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        tracking.client.get_registered_model(name)
    except MlflowException as problem:
        # The second of names that no registry can hold.
        if problem.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise DarkroomError(f"the registry doesn't answer for {name}: {problem}") from None
    return True


def _version(found: Any, holders: dict[str, str]) -> Version:
    number = str(found.version)
    return Version(
        name=found.name,
        number=number,
        run_id=found.run_id,
        sha256=found.tags.get("sha256", ""),
        tags=dict(found.tags),
        aliases=sorted(alias for alias, holder in holders.items() if holder == number),
    )
