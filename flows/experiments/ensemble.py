"""Make one model of several, and let it be judged like any candidate."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import flow

from components.shared.errors import DarkroomError, SettingsError
from components.shared.files import read_json, sha256_of_file, write_json
from flows.project.dvc import data_paths
from flows.project.fingerprint import fingerprint
from flows.project.model_names import parse_version
from flows.registry.initial_weights import fetch_version
from flows.registry.lineage import write_lineage
from flows.session.session import Prepared, Session, alone, open_session, timed
from flows.steps.evaluate import evaluate_model, members_of
from flows.steps.prepare import prepare_data
from flows.steps.promote import promote_version
from flows.steps.quantize import quantize_model
from flows.steps.register import register_model
from flows.steps.task import step
from flows.steps.train import Trained, run_tags
from flows.tracking import runs

SNAPSHOTS = "snapshots"
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Member:
    name: str
    """As a person calls it."""
    run_id: str
    """The run that trained it."""
    folder: Path
    """model.safetensors and model.json."""

    @property
    def digest(self) -> str:
        return " ".join(sha256_of_file(file) for file in sorted(self.folder.iterdir()))


@step("ensemble")
def ensemble_models(session: Session, prepared: Prepared, addresses: Sequence[str]) -> Trained:
    """The run of an ensemble of these models: found or new.

    Raises SettingsError for fewer than two members, one named twice, or members of other data, labels or preprocessing.
    """
    with timed("ensemble") as watch:
        members = find_members(session, prepared, addresses)
        mark = fingerprint(
            "ensemble",
            inputs={
                "members": [member.digest for member in members],
                "data": prepared.data_version,
                "augmented": prepared.augmented_digest,
            },
            settings={},
            code=("components.models.ensemble",),
            packages=("torch",),
        )
        with alone(session, mark):
            run_id = runs.find_done(session.tracking, "ensemble", mark)
            if run_id is not None:
                watch.reused(f"run {run_id}")
            else:
                run_id = _join(session, prepared, members, mark)
                watch.note = f"run {run_id}"
    return Trained(run_id, "ensemble", watch.time())


def find_members(session: Session, prepared: Prepared, addresses: Sequence[str]) -> list[Member]:
    """Fetches them all; raises SettingsError for one that isn't there, is named twice, or learned from other data."""
    members = [member for address in addresses for member in _members_at(session, address)]
    seen: dict[str, Member] = {}
    for member in members:
        same = seen.setdefault(member.digest, member)
        if same is not member:
            raise SettingsError(f"{member.name} is the same model as {same.name}; name each member once")
        tags = runs.tags_of(session.tracking, member.run_id)
        told = (tags.get("darkroom.data_version"), tags.get("darkroom.split_digest"))
        # What one member learned from must not be among the test images of the others.
        if told != (prepared.data_version, prepared.split_digest):
            raise SettingsError(
                f"{member.name} was trained on other data or another split than those at hand, by which the ensemble "
                "would be judged; train it again on this data"
            )
    return members


def _members_at(session: Session, address: str) -> Iterator[Member]:
    if address == SNAPSHOTS:
        yield from _snapshots(session)
    elif _RUN_ID.fullmatch(address):
        found = runs.step_of(session.tracking, address)
        if found not in ("train", "finetune"):
            raise SettingsError(f"run {address} keeps no trained network; name a finished run of train or finetune")
        yield Member(f"run {address}", address, runs.fetch(session.tracking, address, "model", step=found))
    else:
        model = fetch_version(session, *parse_version(address, own=session.params.register.name))
        yield Member(model.name, model.run_id, model.folder)


def _snapshots(session: Session) -> Iterator[Member]:
    """Of the newest training, one a cycle."""
    run_id = runs.newest_done(session.tracking, "train")
    remedy = "train with --set train.schedule=cyclic first"
    if run_id is None:
        raise SettingsError(f"nothing was trained yet, so there are no snapshots; {remedy}")
    try:
        folder = runs.fetch(session.tracking, run_id, "members", step="train")
    except DarkroomError:
        raise SettingsError(f"the newest training, run {run_id}, left no snapshots; {remedy}") from None
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield Member(f"snapshot {path.name} of run {run_id}", run_id, path)


def _join(session: Session, prepared: Prepared, members: Sequence[Member], mark: str) -> str:
    from components.models.ensemble import open_ensemble, save_ensemble

    tracking, output = session.tracking, session.project.work / "ensemble" / mark
    folders = [member.folder for member in members]
    name = open_ensemble(folders).spec.architecture
    model = session.params.model.model_copy(update={"architecture": name})
    joined = replace(session, params=replace(session.params, model=model))
    save_ensemble(folders, output / "model")
    write_lineage(joined, prepared, output / "lineage")
    record = output / "lineage" / "lineage.json"
    write_json(record, read_json(record) | {"members": [member.name for member in members]})
    tags = {"darkroom.members": " ".join(dict.fromkeys(member.run_id for member in members))}
    run_id = runs.begin(tracking, "ensemble", mark, name=name, tags=run_tags(session, prepared, None) | tags)
    runs.log_params(tracking, run_id, joined.params.as_record())
    for place in ("model", "lineage"):
        runs.store(tracking, run_id, output / place, place)
    runs.store(tracking, run_id, data_paths(session.project).augmented / "preview.png", "figures")
    runs.log_dataset(
        tracking, run_id, name=session.params.register.name, digest=prepared.data_version, source="data/raw"
    )
    runs.finish(tracking, run_id, "ensemble", mark)
    return run_id


@flow(name="ensemble")
def ensemble(members: list[str], overrides: list[str] | None = None, project: str | None = None) -> dict[str, Any]:
    """An ensemble, exported, registered and judged; returns its run, its members' scores beside it and the verdict."""
    session = open_session(project, overrides, exports=True)
    prepared = prepare_data(session.project)
    joined = ensemble_models(session, prepared, members)
    exported = quantize_model(session, prepared, evaluate_model(session, prepared, joined).trained)
    registered = register_model(session, prepared, exported)
    outcome = promote_version(session, prepared, registered.version)
    verdict = {name: getattr(outcome, name) for name in ("version", "promoted", "status", "reasons")}
    return {"run_id": joined.run_id, "members": members_of(session, joined.run_id), **verdict}
