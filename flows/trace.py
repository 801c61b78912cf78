"""From pixel to served file: every link of a version's lineage, checked where it can be checked here and now."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from ruamel.yaml import YAML

from components.data.leakage import split_digest
from components.data.raw import MANIFEST
from components.errors import DarkroomError, SettingsError
from components.files import read_json, sha256_of_file
from flows.fingerprint import CODE_ROOT, code_digest
from flows.lineage import RECORD, git_state, version_lineage
from flows.listing import show_table
from flows.models import model_name
from flows.project import Project, open_project
from flows.repro import data_paths, data_version, lock_digest
from flows.tracking import ledger, registry, runs
from flows.tracking.registry import Version
from flows.tracking.runs import Tracking

State = Literal["verified", "broken", "not checked"]


@dataclass(frozen=True)
class Link:
    link: str
    value: str
    state: State
    how: str
    """What was compared with what, or why nothing could be."""


def trace(wanted: str | None, *, show: bool) -> dict[str, Any]:
    """The links of NAME@ALIAS or NAME/VERSION (default: the champion), and whether none of them is broken."""
    project = open_project()
    name, number = _parse(project, wanted)
    tracking = runs.tracking_at_hand(project, name)
    if tracking is None:
        raise SettingsError(f"{name} has no version yet; `darkroom run` makes one")
    version = registry.require_ours(registry.get_version(tracking, name, number))
    links = list(_links(project, tracking, version))
    if show:
        rows = [(link.state, link.link, link.value, link.how) for link in links]
        show_table(
            f"{name} version {version.number}, from pixel to served file", ("state", "link", "value", "how"), rows
        )
    whole = all(link.state != "broken" for link in links)
    return {"name": name, "version": version.number, "whole": whole, "links": [asdict(link) for link in links]}


def _parse(project: Project, wanted: str | None) -> tuple[str, str]:
    if wanted is None:
        return model_name(project), ledger.CHAMPION
    text = wanted.removeprefix("models:/")
    name, separator, number = text.partition("@") if "@" in text else text.partition("/")
    if not separator or not name or not number:
        raise SettingsError(f"{wanted}: should read NAME@ALIAS or NAME/VERSION, such as {model_name(project)}@champion")
    return name, number


def _links(project: Project, tracking: Tracking, version: Version) -> Iterator[Link]:
    kept = version_lineage(tracking, version)
    record = read_json(kept / RECORD)
    yield from _code(project, record)
    yield from _raw(project, kept, record)
    yield from _split(kept, record)
    yield from _packed(project, kept)
    yield from _runs(tracking, version, kept)
    yield _file(tracking, version)
    yield _package(tracking, version)
    yield _judged(tracking, version)


def _code(project: Project, record: dict[str, Any]) -> Iterator[Link]:
    git, code = str(record["git"]), record.get("code")
    if git == "unknown":
        yield Link("git revision", git, "not checked", "it was trained outside of git, or before the first commit")
    elif git.endswith("+changes"):
        yield Link("git revision", git, "not checked", "the working tree had changes that weren't committed")
    else:
        same = git == git_state(project)
        yield Link("git revision", git, "verified" if same else "not checked", _at_hand(same, "the working tree"))
    if code is not None:
        same = code_digest(CODE_ROOT) == code
        yield Link("code", code, "verified" if same else "not checked", _at_hand(same, "the code"))


def _raw(project: Project, kept: Path, record: dict[str, Any]) -> Iterator[Link]:
    pinned = YAML(typ="safe", pure=True).load(next(kept.glob("*.dvc")).read_text(encoding="utf-8"))["outs"][0]["md5"]
    version = record["data_version"]
    yield _compared("raw data", version, pinned, "the .dvc file that is kept with the run")
    manifest, wanted = data_paths(project).raw / MANIFEST, record.get("raw_manifest")
    if wanted is None or data_version(project) != version or not manifest.exists():
        yield Link(
            "raw manifest", str(wanted), "not checked", f"data version {version[:12]} isn't at hand: dvc checkout"
        )
    else:
        yield _compared("raw manifest", wanted, sha256_of_file(manifest), f"the SHA-256 of {manifest.name} at hand")


def _split(kept: Path, record: dict[str, Any]) -> Iterator[Link]:
    used = _of_stage(kept, "validate", "deps", record["data_version"])
    yield Link("raw → validated", record["data_version"], _state(used), "dvc.lock names it as what validate read")
    table = pq.read_table(kept / "split.parquet")
    again = split_digest(table["sha256"], table["label"], table["part"])
    yield _compared("split", record["split_digest"], again, "the digest of the kept split, computed again")
    proof = read_json(kept / "leakage.json")
    yield _compared("leak proof", record["split_digest"], proof["digest"], "the split that the proof was made for")


def _packed(project: Project, kept: Path) -> Iterator[Link]:
    used = _of_stage(kept, "augment", "deps", _out_of_stage(kept, "split"))
    yield Link("split → packed", _out_of_stage(kept, "split"), _state(used), "dvc.lock names it as what augment read")
    packed, lock = lock_digest(kept / "dvc.lock", "augment"), project.root / "dvc.lock"
    same = lock.exists() and lock_digest(lock, "augment") == packed
    yield Link("packed", packed, "verified" if same else "not checked", _at_hand(same, "the packed data"))


def _runs(tracking: Tracking, version: Version, kept: Path) -> Iterator[Link]:
    record = read_json(kept / RECORD)
    waiting = [version.run_id]
    while waiting:
        run_id = waiting.pop(0)
        tags = runs.tags_of(tracking, run_id)
        state = tags.get("darkroom.step", "run")
        told = (tags.get("darkroom.data_version"), tags.get("darkroom.split_digest"))
        if told == (record["data_version"], record["split_digest"]):
            yield Link(f"run ({state})", run_id, "verified", "its tags name this data and this split")
        else:
            own = runs.fetch(tracking, run_id, "lineage", step=state) / "dvc.lock"
            same = lock_digest(own, "augment") == lock_digest(kept / "dvc.lock", "augment")
            yield Link(f"run ({state})", run_id, _state(same), "other data, of which the packed images are the same")
        waiting += runs.made_from(tags)


def _file(tracking: Tracking, version: Version) -> Link:
    """Fetching checks the SHA-256; the file itself says which run it is from."""
    from components.serving.classifier import OnnxClassifier

    try:
        model = OnnxClassifier(registry.fetch_model(tracking, version), expected_sha256=version.sha256, provider="cpu")
    except DarkroomError as problem:
        return Link("ONNX file", version.sha256, "broken", str(problem))
    same = (model.card.run_id, model.card.data_version) == (version.run_id, version.tags.get("data_version"))
    return Link("ONNX file", version.sha256, _state(same), "its SHA-256, and the run and data that it names itself")


def _package(tracking: Tracking, version: Version) -> Link:
    digest = version.tags.get(registry.PACKAGE_TAG)
    if digest is None:
        return Link("package", "unknown", "not checked", "an older release registered it")
    try:
        registry.require_package(tracking, version)
    except DarkroomError as problem:
        return Link("package", digest, "broken", str(problem))
    return Link("package", digest, "verified", "the digest of the package that the clean process was given")


def _judged(tracking: Tracking, version: Version) -> Link:
    try:
        entries = ledger.read_ledger(tracking, version.name).entries
    except DarkroomError as problem:
        return Link("ledger", f"version {version.number}", "broken", str(problem))
    about = [entry for entry in entries if entry.version == version.number and "sha256" in entry.record]
    if not about:
        return Link("ledger", f"version {version.number}", "not checked", "the gate hasn't judged it")
    last = about[-1]
    what = f"entry {last.number}: {last.action}"
    return _compared("ledger", version.sha256, last.record["sha256"], f"the file that was judged ({what})")


def _compared(link: str, value: str, other: str, how: str) -> Link:
    return Link(link, value, _state(value == other), how)


def _state(same: bool) -> State:
    return "verified" if same else "broken"


def _at_hand(same: bool, what: str) -> str:
    return f"{what} at hand is the same" if same else f"{what} at hand is another"


def _of_stage(kept: Path, stage: str, kind: str, md5: str) -> bool:
    return any(one.get("md5") == md5 for one in _lock(kept)["stages"][stage][kind])


def _out_of_stage(kept: Path, stage: str) -> str:
    return str(_lock(kept)["stages"][stage]["outs"][0]["md5"])


def _lock(kept: Path) -> Any:
    return YAML(typ="safe", pure=True).load((kept / "dvc.lock").read_text(encoding="utf-8"))
