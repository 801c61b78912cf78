"""Make one model of several; the gate decides on it as on any other."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import flow

from components.records.members import MemberScores
from components.shared.errors import DarkroomError, SettingsError
from components.shared.files import sha256_of_file
from flows.project.dvc import data_paths
from flows.project.fingerprint import Facts
from flows.project.model_names import parse_version
from flows.registry.initial_weights import fetch_version
from flows.registry.lineage import write_lineage
from flows.session.session import Prepared, Session, open_session
from flows.steps.evaluate import Evaluate, members_of
from flows.steps.prepare import Prepare
from flows.steps.promote import GateOutcome, Promote, Promoted
from flows.steps.quantize import Quantize
from flows.steps.register import Register
from flows.steps.step import FingerprintedStep, Results, Step, run_all
from flows.steps.train import Trained
from flows.steps.training_run import run_tags
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


@dataclass(frozen=True)
class JoinMembers(FingerprintedStep[Trained]):
    """The run of an ensemble of the models at these addresses: found or new.

    Raises SettingsError for fewer than two members, one named twice, or members of other data, labels or preprocessing.
    """

    name = "ensemble"
    code = ("components.models.ensemble",)
    packages = ("torch",)
    addresses: tuple[str, ...]

    def inputs(self, session: Session, results: Results) -> Facts:
        prepared = results[Prepared]
        return {
            "members": [member.digest for member in find_members(session, prepared, self.addresses)],
            "data": prepared.data_version,
            "augmented": prepared.augmented_digest,
        }

    def settings(self, session: Session) -> Facts:
        return {}

    def find(self, session: Session, results: Results, key: str) -> Trained | None:
        run_id = runs.find_done(session.tracking, self.name, key)
        return Trained(run_id, "ensemble") if run_id is not None else None

    def work(self, session: Session, results: Results, key: str) -> Trained:
        prepared = results[Prepared]
        return Trained(_join(session, prepared, find_members(session, prepared, self.addresses), key), "ensemble")

    def summary(self, session: Session, result: Trained) -> str:
        return f"run {result.run_id}"


def find_members(session: Session, prepared: Prepared, addresses: Sequence[str]) -> list[Member]:
    """Fetches them all; raises SettingsError for one that isn't there, is named twice, or learned from other data."""
    members = [member for address in addresses for member in _members_at(session, prepared, address)]
    seen: dict[str, Member] = {}
    for member in members:
        same = seen.setdefault(member.digest, member)
        if same is not member:
            raise SettingsError(f"{member.name} is the same model as {same.name}; name each member once")
        tags = runs.tags_of(session.tracking, member.run_id)
        data = (tags.get("darkroom.data_version"), tags.get("darkroom.split_digest"))
        # What one member learned from must not be among the test images of the others.
        if data != (prepared.data_version, prepared.split_digest):
            raise SettingsError(
                f"{member.name} was trained on other data or another split than the current ones, on which the "
                "ensemble would be scored; train it again on this data"
            )
    return members


def _members_at(session: Session, prepared: Prepared, address: str) -> Iterator[Member]:
    if address == SNAPSHOTS:
        yield from _snapshots(session, prepared)
    elif _RUN_ID.fullmatch(address):
        found = runs.step_of(session.tracking, address)
        if found not in ("train", "finetune"):
            raise SettingsError(f"run {address} keeps no trained network; name a finished run of train or finetune")
        yield Member(f"run {address}", address, runs.fetch(session.tracking, address, "model", step=found))
    else:
        model = fetch_version(session, *parse_version(address, own=session.params.register.name))
        yield Member(model.name, model.run_id, model.folder)


def _snapshots(session: Session, prepared: Prepared) -> Iterator[Member]:
    """Of the newest training, one a cycle."""
    run_id = runs.newest_done(session.tracking, "train", split_digest=prepared.split_digest)
    remedy = "train with --set train.schedule=cyclic first"
    if run_id is None:
        raise SettingsError(f"nothing was trained on this split yet, so there are no snapshots; {remedy}")
    try:
        folder = runs.fetch(session.tracking, run_id, "members", step="train")
    except DarkroomError:
        raise SettingsError(f"the newest training, run {run_id}, left no snapshots; {remedy}") from None
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield Member(f"snapshot {path.name} of run {run_id}", run_id, path)


def _join(session: Session, prepared: Prepared, members: Sequence[Member], key: str) -> str:
    from components.models.ensemble import open_ensemble, save_ensemble

    tracking, output = session.tracking, session.project.work / "ensemble" / key
    folders = [member.folder for member in members]
    name = open_ensemble(folders).spec.architecture
    model = session.params.model.model_copy(update={"architecture": name})
    joined = replace(session, params=replace(session.params, model=model))
    save_ensemble(folders, output / "model")
    write_lineage(joined, prepared, output / "lineage", members=[member.name for member in members])
    tags = {"darkroom.members": " ".join(dict.fromkeys(member.run_id for member in members))}
    run_id = runs.begin(tracking, "ensemble", key, name=name, tags=run_tags(session, prepared, None) | tags)
    runs.log_params(tracking, run_id, joined.params.as_record())
    for place in ("model", "lineage"):
        runs.store(tracking, run_id, output / place, place)
    runs.store(tracking, run_id, data_paths(session.project).augmented / "preview.png", "figures")
    runs.log_dataset(
        tracking, run_id, name=session.params.register.name, digest=prepared.data_version, source="data/raw"
    )
    runs.finish(tracking, run_id, "ensemble", key)
    return run_id


@dataclass(frozen=True)
class EnsembleResult(GateOutcome):
    """The gate's decision on an ensemble, its run, and the scores of its members beside it."""

    run_id: str
    members: list[MemberScores]


@flow(name="ensemble")
def ensemble(
    members: list[str],
    overrides: list[str] | None = None,
    project: str | None = None,
    values: dict[str, Any] | None = None,
) -> EnsembleResult:
    """An ensemble: exported, registered and decided on."""
    session = open_session(project, overrides, values=values, exports=True)
    prepared = run_all([Prepare()], session)[Prepared]
    session = session.for_data()
    steps: list[Step[Any]] = [JoinMembers(tuple(members)), Evaluate(), Quantize(), Register(), Promote()]
    results = run_all(steps, session, prepared)
    run_id, decision = results[Trained].run_id, results[Promoted]
    return EnsembleResult(
        version=decision.version,
        promoted=decision.promoted,
        status=decision.status,
        reasons=decision.reasons,
        run_id=run_id,
        members=members_of(session, run_id),
    )
