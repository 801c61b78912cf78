"""Let the gate judge a registered version, write down the outcome, and move the aliases last."""

import getpass
import json
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from prefect import flow

from components.data.raw import RawImages
from components.errors import SettingsError
from components.files import read_json, write_json
from components.promotion import gate
from components.promotion.ledger import Entry, champions, next_entry
from flows.fingerprint import fingerprint
from flows.prepare import Prepared, prepare_data
from flows.project import Project
from flows.quantize import export_folder
from flows.repro import data_paths
from flows.session import Session, StepTime, open_session, timed
from flows.tasks import step
from flows.tracking import registry, runs

_VERDICT, _JUDGED = "verdict", "judged"


@dataclass(frozen=True)
class Promoted:
    version: str
    promoted: bool
    reasons: list[str]
    rules: list[dict[str, Any]]
    time: StepTime


@dataclass(frozen=True)
class TestFiles:
    """The test images as files, for models that see them at another size."""

    label_N: list[str]
    sha256_N: list[str]
    content_N: list[bytes]


@step("promote")
def promote_version(session: Session, prepared: Prepared, number: str) -> Promoted:
    """A bad score is a result: the verdict says no, nothing is raised and no alias moves."""
    name = session.params.register.name
    with timed("promote") as watch, registry_lock(session.project):
        version = registry.get_version(session.tracking, name, number)
        mark = fingerprint(
            "promote",
            inputs={"sha256": version.sha256, "split": prepared.split_digest},
            settings=session.params.promote.model_dump(),
            code=("components.promotion.gate",),
            packages=(),
        )
        if version.tags.get(_JUDGED) == mark:
            watch.reused()
            registry.settle_aliases(session.tracking, name, registry.read_ledger(session.tracking, name))
        else:
            version = _judge(session, prepared, version, mark)
        verdict = json.loads(version.tags[_VERDICT])
        watch.note = ("promoted: " if verdict["promoted"] else "not promoted: ") + "; ".join(verdict["reasons"])
    return Promoted(version.number, verdict["promoted"], verdict["reasons"], verdict["rules"], watch.time())


def registry_lock(project: Project) -> FileLock:
    """One decision at a time."""
    project.home.mkdir(parents=True, exist_ok=True)
    return FileLock(project.home / "registry.lock")


def record_decision(
    session: Session,
    *,
    action: Literal["promoted", "refused", "rolled back"],
    version: str,
    reasons: list[str],
    record: dict[str, Any],
) -> list[Entry]:
    """Appends to the ledger, then settles the aliases; returns the whole ledger."""
    name = session.params.register.name
    entries = registry.read_ledger(session.tracking, name)
    line = champions(entries)
    serving = {"promoted": version, "refused": line[-1] if line else None, "rolled back": version}[action]
    entry = next_entry(
        entries,
        action=action,
        version=version,
        champion=serving,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        who=f"{getpass.getuser()}@{socket.gethostname()}",
        reasons=reasons,
        record=record,
    )
    registry.append_to_ledger(session.tracking, name, entry)
    registry.settle_aliases(session.tracking, name, [*entries, entry])
    return [*entries, entry]


def _judge(session: Session, prepared: Prepared, version: registry.Version, mark: str) -> registry.Version:
    from components.evaluation.served import labels_of_files
    from components.serving.classifier import OnnxClassifier

    name, settings = session.params.register.name, session.params.promote
    files = _test_files(session)
    model = OnnxClassifier(registry.fetch_model(session.tracking, version), expected_sha256=version.sha256)
    predicted = labels_of_files(model, files.content_N)
    champion = registry.champion(session.tracking, name)
    rival = champion if champion is not None and champion.number != version.number else None
    comparison = _compare(session, rival, files, predicted) if rival is not None else None
    decision = gate.decide(_candidate(session, version, files, predicted), comparison, settings)
    _write_outcome(session, version, decision, comparison)
    record_decision(
        session,
        action="promoted" if decision.promoted else "refused",
        version=version.number,
        reasons=decision.reasons,
        record={
            "run_id": version.run_id,
            "sha256": version.sha256,
            "data_version": prepared.data_version,
            "split_digest": prepared.split_digest,
            "rules": [f"{rule.rule}: {rule.value} ({rule.limit})" for rule in decision.rules],
        },
    )
    # Last: until this tag stands, the next run judges again.
    registry.annotate(session.tracking, name, version.number, tags={_JUDGED: mark})
    return registry.get_version(session.tracking, name, version.number)


def _test_files(session: Session) -> TestFiles:
    paths = data_paths(session.project)
    table = pq.read_table(paths.split / "split.parquet")
    table = table.filter(pc.equal(table["part"], "test"))
    with RawImages(paths.raw) as store:
        rows = table.select(["shard", "offset", "size_bytes"]).to_pylist()
        contents = [store.read(**row) for row in rows]
    return TestFiles(table["label"].to_pylist(), table["sha256"].to_pylist(), contents)


def _candidate(session: Session, version: registry.Version, files: TestFiles, predicted: list[str]) -> gate.Candidate:
    from components.evaluation.served import accuracy_and_macro_f1

    proof = read_json(data_paths(session.project).split / "leakage.json")
    export = read_json(export_folder(session, version.run_id) / "export.json")
    return gate.Candidate(
        format=version.tags["served"],
        sha256=version.sha256,
        scores=gate.ServedScores(*accuracy_and_macro_f1(files.label_N, predicted)),
        parity_difference=export["parity"]["max_logit_difference"],
        max_parity_difference=session.params.quantize.max_logit_difference,
        pairs_across_parts=proof["pairs_across_parts"],
        split_digest=version.tags["split_digest"],
        proof_digest=proof["digest"],
    )


def _compare(
    session: Session, rival: registry.Version, files: TestFiles, predicted: list[str]
) -> gate.ChampionComparison:
    """On the same images, without those that the champion was trained on."""
    from components.evaluation.served import accuracy_and_macro_f1, labels_of_files
    from components.evaluation.significance import compare_paired
    from components.serving.classifier import OnnxClassifier

    split = pq.read_table(_lineage(session, rival) / "split.parquet")
    seen = set(split.filter(pc.equal(split["part"], "train"))["sha256"].to_pylist())
    kept = [place for place, sha256 in enumerate(files.sha256_N) if sha256 not in seen]
    champion = OnnxClassifier(registry.fetch_model(session.tracking, rival), expected_sha256=rival.sha256)
    champion_says = labels_of_files(champion, [files.content_N[place] for place in kept]) if kept else []
    challenger_says = [predicted[place] for place in kept]
    truth = [files.label_N[place] for place in kept]
    right = [np.array(says, dtype=object) == np.array(truth, dtype=object) for says in (challenger_says, champion_says)]
    nothing = gate.ServedScores(float("nan"), float("nan"))
    return gate.ChampionComparison(
        version=rival.number,
        champion=gate.ServedScores(*accuracy_and_macro_f1(truth, champion_says)) if kept else nothing,
        challenger=gate.ServedScores(*accuracy_and_macro_f1(truth, challenger_says)) if kept else nothing,
        paired=compare_paired(*right),
    )


def _lineage(session: Session, version: registry.Version) -> Path:
    return runs.fetch(session.tracking, version.run_id, "lineage", step=version.tags["step"])


def _write_outcome(
    session: Session, version: registry.Version, decision: gate.Decision, comparison: gate.ChampionComparison | None
) -> None:
    record = decision.as_record() | {"comparison": asdict(comparison) if comparison else None}
    file = runs.folder_of(session.tracking, version.run_id) / "gate" / f"gate_v{version.number}.json"
    write_json(file, record)
    runs.store(session.tracking, version.run_id, file, "gate")
    registry.annotate(
        session.tracking,
        session.params.register.name,
        version.number,
        tags={_VERDICT: _verdict_tag(decision), "promoted": str(decision.promoted).lower()},
        description=_description(version, decision),
    )


def _verdict_tag(decision: gate.Decision) -> str:
    """JSON that fits a tag; the whole decision stands with the run, in gate/."""
    text = json.dumps(decision.as_record())
    if len(text) <= registry.TAG_LETTERS:
        return text
    reasons = [reason[:200] for reason in decision.reasons[:10]]
    return json.dumps({"promoted": decision.promoted, "reasons": reasons, "rules": []})


def _description(version: registry.Version, decision: gate.Decision) -> str:
    """Markdown, as MLflow's page shows it."""
    rows = "\n".join(
        f"| {rule.rule} | {rule.value} | {rule.limit} | {'passed' if rule.passed else '**broken**'} |"
        for rule in decision.rules
    )
    verdict = "Promoted" if decision.promoted else "Not promoted"
    return (
        f"**{verdict}**: {'; '.join(decision.reasons)}\n\n"
        f"{version.tags['served']} ONNX, SHA-256 `{version.sha256}`, data version `{version.tags['data_version']}`\n\n"
        f"| rule | value | limit | verdict |\n|---|---|---|---|\n{rows}\n"
    )


@flow(name="promote")
def promote(
    version: str | None = None, overrides: list[str] | None = None, project: str | None = None
) -> dict[str, Any]:
    """Judges one version, by default the newest; returns the verdict."""
    session = open_session(project, overrides)
    name = session.params.register.name
    if version is None:
        known = registry.versions(session.tracking, name)
        if not known:
            raise SettingsError(f"{name} has no version yet; run `darkroom register` first")
        version = known[0].number
    outcome = promote_version(session, prepare_data(session.project), version)
    return {"version": outcome.version, "promoted": outcome.promoted, "reasons": outcome.reasons}
