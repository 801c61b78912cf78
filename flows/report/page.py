"""One self-contained HTML page on a model, from what its run keeps and the registry says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as release
from pathlib import Path

from components.promotion.gate import ChampionComparison, RuleVerdict
from components.promotion.gate_record import GateRecord, gate_record_name, recorded_comparison
from components.promotion.ledger import Entry, Event, Status, history_of
from components.promotion.recorded_rules import rules_from
from components.records.export import EXPORT, ExportRecord
from components.records.leak_proof import LEAK_PROOF, LeakProof
from components.records.lineage import LINEAGE, LineageRecord
from components.records.scores import SCORES, ScoresRecord
from components.reporting.data_section import class_counts, data_section
from components.reporting.format_section import format_section
from components.reporting.gate_section import gate_section
from components.reporting.leak_proof_section import paths_to_show
from components.reporting.lineage_section import lineage_section
from components.reporting.report_page import (
    DataSection,
    DecisionLine,
    FormatSection,
    GateSection,
    Headline,
    PageContents,
    Verdict,
    render_page,
)
from components.reporting.score_estimates import named_estimate
from components.reporting.training_section import Phase, training_section
from components.shared.errors import DarkroomError, SettingsError
from components.shared.files import write_text
from components.training.epoch_report import EpochReport
from flows.project.model_names import parse_version
from flows.project.outputs import Output
from flows.project.project import Project, open_project
from flows.registry.lineage import LINEAGE_TAG
from flows.registry.version_page import rules_of
from flows.registry.versions import decisions, holder, model_name, status
from flows.report.evaluation import ReportedModel, evaluation_of
from flows.report.run_files import RunFiles
from flows.tracking import registry, runs
from flows.tracking.ledger import CHAMPION

_STEP_NAMES = {"train": "training", "finetune": "fine-tuning"}
_VERDICTS: dict[str, Verdict] = {
    "promoted": "promoted",
    "refused": "refused",
    "awaiting approval": "waiting",
    "rolled back": "rolled-back",
    "undecided": "undecided",
}


@dataclass(frozen=True)
class Registration:
    """What the registry and the ledger say about the model."""

    version: registry.Version | None
    """The version whose file would be served."""
    earlier: str | None
    """A version with another file of the same run."""
    champion: str | None
    status: Status | None
    decisions: list[tuple[Event, Entry]]
    """The history of the version: what each decision meant for it."""


def write_report(out: Path, model: str | None = None, *, overwrite: bool = False) -> Path:
    """Writes the page on NAME@ALIAS or NAME/VERSION, by default on the newest evaluated model.

    Raises SettingsError where there is none, or `out` can't be written, or isn't ours and `overwrite` not given.
    """
    output = Output(out, overwrite=overwrite)
    output.check()
    project = open_project()
    own = model_name(project)
    name, wanted = (own, None) if model is None else parse_version(model, own=own)
    tracking = runs.existing_tracking(project, name)
    if tracking is None:
        raise SettingsError("no model was evaluated yet, so there is nothing to report; run `darkroom run` first")
    version = None if wanted is None else registry.require_ours(registry.get_version(tracking, name, wanted))
    run_id = runs.latest_done(tracking, "evaluate") if version is None else version.run_id
    if run_id is None:
        raise SettingsError("no model was evaluated yet, so there is nothing to report; run `darkroom run` first")
    page = render_page(collect(project, tracking, run_id, name, version))
    try:
        output.check()
        write_text(out, page)
        output.record()
    except OSError as problem:
        reason = problem.strerror or problem
        raise SettingsError(f"{out} can't be written ({reason}); give --out a file such as report.html") from None
    return out


def collect(
    project: Project, tracking: runs.Tracking, run_id: str, name: str, asked: registry.Version | None = None
) -> PageContents:
    """Contents of the page on the model of this run, or on the version that was asked for."""
    tags = runs.tags_of(tracking, run_id)
    files = RunFiles(tracking, run_id, tags.get("darkroom.step", "train"))
    latest = files.read(ExportRecord, "export", EXPORT) if "darkroom.done.quantize" in tags else None
    export = latest if asked is None else _export_of(files, asked, latest)
    scores = files.read(ScoresRecord, "evaluate", SCORES)
    registration = _registration(files, name, export, asked)
    version = registration.version
    place = version.tags.get(LINEAGE_TAG, "lineage") if version else "lineage"
    lineage = files.read(LineageRecord, place, LINEAGE)
    params = lineage.params if lineage else {}
    # The run has detailed scores only of the file that it exported last.
    scored = export is not None and latest is not None and export.served_file.sha256 == latest.served_file.sha256
    model = ReportedModel(project, files, params, export.served if export and scored else None)
    num_classes = len(scores.classes) if scores else None
    return PageContents(
        headline=_headline(name, model.scored, registration, export, scores),
        written=f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by darkroom {release('darkroom')}",
        others=f"Other versions: `darkroom models` lists them, and `darkroom report {name}/1` writes the page of one.",
        gate=_gate(files, registration),
        data=_data(model, place, lineage) if lineage else None,
        training=training_section(_phases(files, tags), params=params, classes=num_classes),
        evaluation=evaluation_of(model, scores) if scores and lineage else None,
        formats=_formats(files, export) if export else None,
        lineage=lineage_section(
            lineage,
            run_id=run_id,
            trained_from=tags.get("darkroom.trained_from"),
            version=version.number if version else None,
            sha256=version.sha256 if version else export.served_file.sha256 if export else None,
            served=version.tags["served"] if version else export.served if export else None,
        )
        if lineage
        else None,
        missing=_missing(registration, exported=export is not None),
        problems=list(dict.fromkeys(files.problems)),
    )


def _export_of(files: RunFiles, version: registry.Version, latest: ExportRecord | None) -> ExportRecord | None:
    """The record of the export that a version is from: the run may have been exported again since then."""
    place = version.tags.get(LINEAGE_TAG)
    record = latest if place is None else files.read(ExportRecord, place, EXPORT)
    return None if record is None else record.model_copy(update={"served": version.tags["served"]})


def _registration(
    files: RunFiles, name: str, export: ExportRecord | None, asked: registry.Version | None
) -> Registration:
    versions = registry.versions(files.tracking, name)
    own = [version for version in versions if version.run_id == files.run_id]
    sha256 = export.served_file.sha256 if export else None
    version = asked or next((one for one in own if sha256 in (None, one.sha256)), None)
    ledger, problem = decisions(files.tracking, name)
    files.problems += [problem] if problem else []
    return Registration(
        version=version,
        earlier=own[0].number if own and version is None else None,
        champion=holder(versions, CHAMPION),
        status=status(version, ledger) if version is not None else None,
        decisions=history_of(ledger.current, version.number) if version is not None and ledger is not None else [],
    )


def _headline(
    name: str, scored: str, found: Registration, export: ExportRecord | None, scores: ScoresRecord | None
) -> Headline:
    served = export.served_file if export else None
    scored_by = served.test if served else scores
    values, intervals = (scored_by.values, scored_by.intervals) if scored_by else ({}, {})
    return Headline(
        name=name,
        version=found.version.number if found.version else None,
        verdict=_VERDICTS[found.status.verdict] if found.status else "unregistered",
        status=_status_sentence(found),
        decided=_decided(found.status),
        reasons=found.status.reasons if found.status else [],
        aliases=found.version.aliases if found.version else [],
        served=export.served if export else "not exported yet",
        scored=scored,
        accuracy=named_estimate("accuracy", values, intervals),
        macro_f1=named_estimate("macro_f1", values, intervals),
        test_images=scores.images if scores else None,
        size_bytes=served.measured.size_bytes if served else None,
        latency_p50_ms=served.measured.latency.p50_ms if served else None,
        latency_p95_ms=served.measured.latency.p95_ms if served else None,
    )


def _status_sentence(found: Registration) -> str:
    if found.version is not None and CHAMPION in found.version.aliases:
        return "This version is @champion and serves."
    serving = f"Version {found.champion} is @champion" if found.champion else "No version is @champion"
    if found.status is not None and found.status.verdict in ("promoted", "rolled back"):
        return f"This version no longer serves. {serving} now."
    return f"{serving}."


def _decided(status: Status | None) -> str:
    entry = status.entry if status is not None else None
    return f"by {entry.who}, {entry.moment}" if entry is not None else ""


def _missing(found: Registration, *, exported: bool) -> dict[str, str]:
    """A sentence for each section that has no content yet."""
    if found.version is not None:
        gate = "The gate hasn't decided on this version yet; run `darkroom promote`."
    elif found.earlier is not None:
        gate = (
            f"The file that would be served isn't registered yet (version {found.earlier} is another file), so "
            "the gate hasn't decided on it; run `darkroom register`."
        )
    else:
        gate = "This model isn't registered yet, so the gate hasn't decided on it; run `darkroom register`."
    formats = "could not be read." if exported else "isn't exported yet; run `darkroom quantize`."
    return {
        "gate": gate,
        "formats": f"This model {formats}",
        "evaluation": "The scores of this model could not be read.",
    }


def _gate(files: RunFiles, found: Registration) -> GateSection | None:
    if found.version is None or found.status is None or found.status.verdict == "undecided":
        return None
    decisions = [
        DecisionLine(entry.number, entry.moment, entry.who, event, entry.reasons) for event, entry in found.decisions
    ]
    return gate_section(*_last_decision(files, found.version, found.status.own_entry), decisions)


def _last_decision(
    files: RunFiles, version: registry.Version, last: Entry | None
) -> tuple[Sequence[RuleVerdict], ChampionComparison | None]:
    """The rules and the comparison of the last decision: from the ledger, or where it is broken from the run."""
    if last is None:
        record = files.read(GateRecord, "gate", gate_record_name(version.number))
        return (record.rules, record.comparison) if record is not None else ([], None)
    try:
        rules = rules_of(files.tracking, version, last)
    except DarkroomError as problem:
        files.problems.append(str(problem))
        rules = rules_from(last.record["rules"])
    return rules, recorded_comparison(last)


def _data(model: ReportedModel, place: str, lineage: LineageRecord) -> DataSection:
    files = model.files
    split, proof = files.path(place, "split.parquet"), files.read(LeakProof, place, LEAK_PROOF)
    return data_section(
        counts=class_counts(_labels_and_splits(split)) if split is not None else [],
        validation=files.json(place, "validation.json"),
        proof=proof,
        split_digest=lineage.split_digest,
        augment=lineage.params["augment"],
        preview=files.picture(
            "figures",
            "preview.png",
            alt="Training images in rows, each with its augmented copies",
            caption="One row per training image: the original first, then augmented copies as training sees them.",
        ),
        pictures=model.pictures(split, paths_to_show(proof)) if split and proof else {},
    )


def _labels_and_splits(split: Path) -> list[tuple[str, str]]:
    import pyarrow.parquet as pq

    from components.task.label_text import counted_names

    rows = pq.read_table(split, columns=["label", "labels", "split"]).to_pylist()
    return [(name, row["split"]) for row in rows for name in counted_names(row["label"], row["labels"] or [])]


def _phases(files: RunFiles, tags: dict[str, str]) -> list[Phase]:
    if files.made_by == "ensemble":
        return []
    parent = tags.get("darkroom.trained_from")
    return (
        [_phase(RunFiles(files.tracking, parent, "train", files.problems)), _phase(files)]
        if parent
        else [_phase(files)]
    )


def _phase(files: RunFiles) -> Phase:
    step = _STEP_NAMES.get(files.made_by, files.made_by)
    best = runs.metric_history(files.tracking, files.run_id, "best_epoch")
    diagnosis = runs.tags_of(files.tracking, files.run_id).get("darkroom.diagnosis")
    epochs = [EpochReport(**report) for report in files.json("history.json") or []]
    return Phase(step, epochs, int(best[-1][1]) if best else None, diagnosis)


def _formats(files: RunFiles, export: ExportRecord) -> FormatSection:
    return format_section(
        export,
        served=export.served,
        picture=files.picture(
            "export",
            "formats.png",
            alt="Bars of each file's size, latency, throughput, memory and accuracy",
            caption="The exported files compared, as measured on the machine that exported them.",
        ),
    )
