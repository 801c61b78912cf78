"""Verifies every link of a version's lineage, from the raw data to the served file, as far as this machine can."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from ruamel.yaml import YAML

from components.data.raw.dataset import MANIFEST
from components.data.split.leak_proof import split_digest
from components.promotion.ledger import status_of
from components.records.leak_proof import LEAK_PROOF, LeakProof
from components.records.lineage import LINEAGE, LineageRecord
from components.shared.errors import DarkroomError, SettingsError
from components.shared.files import sha256_of_file
from flows.console.tables import show_table
from flows.project.dvc import data_paths, data_version, lock_digest
from flows.project.fingerprint import CODE_ROOT, code_digest
from flows.project.model_names import parse_version
from flows.project.project import Project, open_project
from flows.registry.lineage import unpack_revision, version_lineage
from flows.registry.versions import model_name
from flows.tracking import ledger, registry, runs
from flows.tracking.registry import Version
from flows.tracking.runs import Tracking

State = Literal["verified", "broken", "missing", "not checked"]

_SHOWN_REVISION = 12


@dataclass(frozen=True)
class Link:
    link: str
    value: str
    state: State
    how: str
    """What was compared with what, or why nothing could be."""


@dataclass(frozen=True)
class Trace:
    """The lineage of a version, link by link."""

    name: str
    version: str
    whole: bool
    """Whether no link is broken, and nothing is missing that a link leads to."""
    links: list[Link]


def trace(wanted: str | None, *, show: bool) -> Trace:
    """The links of a version; default: the champion."""
    project = open_project()
    name, number = model_name(project), ledger.CHAMPION
    if wanted is not None:
        name, number = parse_version(wanted, own=name)
    tracking = runs.existing_tracking(project, name)
    if tracking is None:
        raise SettingsError(f"{name} has no version yet; `darkroom run` makes one")
    version = registry.require_ours(registry.get_version(tracking, name, number))
    links = list(_links(project, tracking, version))
    if show:
        rows = [(link.state, link.link, link.value, link.how) for link in links]
        show_table(
            f"{name} version {version.number}, from pixel to served file", ("state", "link", "value", "how"), rows
        )
    whole = all(link.state not in ("broken", "missing") for link in links)
    return Trace(name, version.number, whole, links)


def _links(project: Project, tracking: Tracking, version: Version) -> Iterator[Link]:
    kept = version_lineage(tracking, version)
    record = LineageRecord.read(kept / LINEAGE)
    yield from _code(project, record)
    yield from _raw(project, kept, record)
    yield from _split(kept, record)
    yield from _packed(project, kept)
    yield from _runs(tracking, version, kept)
    yield _file(tracking, version)
    yield _package(tracking, version)
    yield _ledger(tracking, version)


def _code(project: Project, record: LineageRecord) -> Iterator[Link]:
    yield Link("git revision", record.git, *_revision(project, record))
    same = code_digest(CODE_ROOT) == record.code
    yield Link("code", record.code, "verified" if same else "not checked", _current(same, "code"))


def _revision(project: Project, record: LineageRecord) -> tuple[State, str]:
    """Whether the commit holds the code that was used: what else wasn't committed then is kept with the run."""
    if record.git == "unknown":
        return "not checked", "it was trained outside of git, or before the first commit; commit before the next run"
    commit, changed = f"commit {record.revision[:_SHOWN_REVISION]}", record.uncommitted
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        if not unpack_revision(project, record.revision, Path(scratch)):
            return "not checked", f"{commit} isn't in this repository; fetch it with `git fetch`"
        same = code_digest(Path(scratch)) == record.code
    if same:
        rest = "; the working tree held other changes that weren't committed (parameters, pins of the data): the run"
        return "verified", f"{commit} holds the code that was used{f'{rest} keeps them' if changed else ''}"
    if changed:
        return "not checked", (
            f"it was trained on {commit} and changes in the working tree that weren't committed, so git doesn't hold "
            "the code that was used; commit before the next run, and that version can be traced"
        )
    return "not checked", f"{commit} doesn't hold the code that was used, which was installed elsewhere"


def _raw(project: Project, kept: Path, record: LineageRecord) -> Iterator[Link]:
    pinned = YAML(typ="safe", pure=True).load(next(kept.glob("*.dvc")).read_text(encoding="utf-8"))["outs"][0]["md5"]
    version = record.data_version
    yield _compared("raw data", version, pinned, "the .dvc file that is kept with the run")
    manifest, wanted = data_paths(project).raw / MANIFEST, record.raw_manifest
    if data_version(project) != version or not manifest.exists():
        yield Link(
            "raw manifest", wanted, "not checked", f"data version {version[:12]} isn't checked out; run dvc checkout"
        )
    else:
        yield _compared("raw manifest", wanted, sha256_of_file(manifest), f"the SHA-256 of the current {manifest.name}")


def _split(kept: Path, record: LineageRecord) -> Iterator[Link]:
    used = _of_stage(kept, "validate", "deps", record.data_version)
    yield Link("raw → validated", record.data_version, _state(used), "dvc.lock names it as what validate read")
    table = pq.read_table(kept / "split.parquet")
    again = split_digest(table["sha256"], table["label"], table["split"])
    yield _compared("split", record.split_digest, again, "the digest of the kept split, computed again")
    proof = LeakProof.read(kept / LEAK_PROOF)
    yield _compared("leak proof", record.split_digest, proof.split_digest, "the split that the proof was made for")


def _packed(project: Project, kept: Path) -> Iterator[Link]:
    used = _of_stage(kept, "augment", "deps", _out_of_stage(kept, "split"))
    yield Link("split → packed", _out_of_stage(kept, "split"), _state(used), "dvc.lock names it as what augment read")
    packed, lock = lock_digest(kept / "dvc.lock", "augment"), project.root / "dvc.lock"
    same = lock.exists() and lock_digest(lock, "augment") == packed
    yield Link("packed", packed, "verified" if same else "not checked", _current(same, "packed data"))


def _runs(tracking: Tracking, version: Version, kept: Path) -> Iterator[Link]:
    record = LineageRecord.read(kept / LINEAGE)
    waiting = [version.run_id]
    while waiting:
        run_id = waiting.pop(0)
        tags = runs.tags_of(tracking, run_id)
        state = tags.get("darkroom.step", "run")
        tagged = (tags.get("darkroom.data_version"), tags.get("darkroom.split_digest"))
        if tagged == (record.data_version, record.split_digest):
            yield Link(f"run ({state})", run_id, "verified", "its tags name this data and this split")
        else:
            own = runs.fetch(tracking, run_id, "lineage", step=state) / "dvc.lock"
            same = lock_digest(own, "augment") == lock_digest(kept / "dvc.lock", "augment")
            yield Link(f"run ({state})", run_id, _state(same), "other data, of which the packed images are the same")
        waiting += runs.made_from(tags)


def _file(tracking: Tracking, version: Version) -> Link:
    """Fetching checks the SHA-256; the file itself says which run it is from."""
    from components.serving.onnx_classifier import OnnxClassifier

    try:
        model = OnnxClassifier(registry.fetch_model(tracking, version), expected_sha256=version.sha256, provider="cpu")
    except registry.NotStored as problem:
        return Link("ONNX file", version.sha256, "missing", str(problem))
    except DarkroomError as problem:
        return Link("ONNX file", version.sha256, "broken", str(problem))
    same = (model.card.run_id, model.card.data_version) == (version.run_id, version.tags.get("data_version"))
    return Link("ONNX file", version.sha256, _state(same), "its SHA-256, and the run and data that it names itself")


def _package(tracking: Tracking, version: Version) -> Link:
    digest = version.tags.get(registry.PACKAGE_TAG)
    if digest is None:
        return Link("package", "unknown", "not checked", "it was registered without a serving check")
    try:
        registry.require_package(tracking, version)
    except registry.NotStored as problem:
        return Link("package", digest, "missing", str(problem))
    except DarkroomError as problem:
        return Link("package", digest, "broken", str(problem))
    return Link("package", digest, "verified", "the digest of the package that the clean process was given")


def _ledger(tracking: Tracking, version: Version) -> Link:
    try:
        # All entries: of those that stand, a version whose digest was changed has none.
        status = status_of(ledger.read_ledger(tracking, version.name).entries, version.number)
    except DarkroomError as problem:
        return Link("ledger", f"version {version.number}", "broken", str(problem))
    if status.entry is None or status.own_entry is None:
        return Link("ledger", f"version {version.number}", "not checked", "the gate hasn't decided on it")
    what = f"entry {status.own_entry.number}; by entry {status.entry.number} it is {status.verdict}"
    return _compared(
        "ledger", version.sha256, status.own_entry.record["sha256"], f"the file that the gate decided on ({what})"
    )


def _compared(link: str, value: str, other: str, how: str) -> Link:
    return Link(link, value, _state(value == other), how)


def _state(same: bool) -> State:
    return "verified" if same else "broken"


def _current(same: bool, what: str) -> str:
    return f"the current {what} is the same" if same else f"the current {what} differs"


def _of_stage(kept: Path, stage: str, kind: str, md5: str) -> bool:
    return any(one.get("md5") == md5 for one in _lock(kept)["stages"][stage][kind])


def _out_of_stage(kept: Path, stage: str) -> str:
    return str(_lock(kept)["stages"][stage]["outs"][0]["md5"])


def _lock(kept: Path) -> Any:
    return YAML(typ="safe", pure=True).load((kept / "dvc.lock").read_text(encoding="utf-8"))
