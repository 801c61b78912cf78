"""What a version's page on the tracking server says of the last decision: its model card, tags and records."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlencode

from components.evaluation.metric_names import without_level
from components.promotion.gate import RuleVerdict
from components.promotion.gate_record import GateRecord, gate_record_name, recorded_comparison
from components.promotion.ledger import Entry, Status
from components.promotion.recorded_rules import DIGEST, rules_digest, rules_from
from components.records.analysis import ALL_CORRUPTIONS, ANALYSIS, UNCORRUPTED, AnalysisRecord
from components.records.export import EXPORT, ExportRecord
from components.reporting.model_card import CardContents, CardPicture, CorruptedAccuracy, WeakClass, model_card
from components.reporting.model_page import KEPT, model_page
from components.shared.errors import DarkroomError
from components.shared.files import read_json, write_json, write_text
from flows.project.project import Project
from flows.registry.lineage import lineage_of
from flows.tracking import registry, runs
from flows.tracking.connection import version_page
from flows.tracking.ledger import Ledger
from flows.tracking.registry import Version
from flows.tracking.runs import Tracking

logger = logging.getLogger(__name__)

_PUBLISHED = "darkroom.published"
_OF_OLDER_RELEASES = ("verdict", "promoted", "ledger_entry")
"""Tags that said what the ledger does, and would contradict it by now."""
_PICTURES = (
    ("served", "quantize", "confusion.png", "Confusion matrix (rows: true classes)"),
    ("served", "quantize", "errors.png", "High-confidence errors on test images"),
    ("figures", None, "curves.png", "Losses and validation scores over the epochs"),
)
"""Place in the run, the step that left it there (None: the one that made the model), file, caption."""
_RULES = "rules.json"
_OF_LEVELS = ("accuracy", "balanced_accuracy", "macro_f1")


def publish(tracking: Tracking, version: Version, status: Status) -> None:
    """Shows the decision on the version's page; idempotent: its checksum, written last, marks it as shown."""
    decision, own = status.entry, status.own_entry
    if decision is None or own is None or version.tags.get(_PUBLISHED) == decision.checksum:
        return
    record = GateRecord(
        promoted=own.action == "promoted",
        reasons=own.reasons,
        rules=rules_of(tracking, version, own),
        comparison=recorded_comparison(own),
        entry=own.number,
    )
    file = runs.folder_of(tracking, version.run_id) / "gate" / gate_record_name(version.number)
    record.write(file)
    runs.store(tracking, version.run_id, file, "gate")
    registry.annotate(
        tracking,
        version,
        tags={registry.STATUS_TAG: status.verdict},
        without=_OF_OLDER_RELEASES,
        description=_card(tracking, version, status),
    )
    registry.annotate(tracking, version, tags={_PUBLISHED: decision.checksum})


def describe_model(tracking: Tracking, name: str, now: Ledger) -> None:
    """Says on the model's page what it is and which version serves; a text that a person wrote there stays."""
    text = model_page(name, now.current)
    known = tracking.client.get_registered_model(name).description or ""
    if known != text and (not known or known.endswith(KEPT)):
        tracking.client.update_registered_model(name, text)


def show_page(project: Project, version: Version) -> None:
    page = version_page(project, version.name, version.number)
    if page is not None:
        logger.info(f"the page of {version.name} version {version.number}: {page}")


def keep_rules(tracking: Tracking, version: Version, digest: str, rules: Sequence[RuleVerdict]) -> None:
    """The whole list of a decision's rules, where they are too many for the ledger; called by their digest."""
    file = runs.folder_of(tracking, version.run_id) / _rules_place(digest) / _RULES
    write_json(file, [asdict(rule) for rule in rules])
    runs.store(tracking, version.run_id, file, _rules_place(digest))


def rules_of(tracking: Tracking, version: Version, entry: Entry) -> list[RuleVerdict]:
    """Every rule of a decision; raises DarkroomError where the run keeps other rules than the ledger records."""
    digest = entry.record.get(DIGEST)
    if digest is None:
        return rules_from(entry.record["rules"])
    kept = runs.fetch(tracking, version.run_id, _rules_place(digest), step="promote") / _RULES
    rules = rules_from(read_json(kept))
    if rules_digest(rules) != digest:
        raise DarkroomError(
            f"the rules that run {version.run_id} keeps aren't those of entry {entry.number} of the ledger; restore "
            "them from a backup"
        )
    return rules


def _rules_place(digest: str) -> str:
    return f"rules-{digest[:12]}"


def _card(tracking: Tracking, version: Version, status: Status) -> str:
    """Keeps the card and its pictures with the run; returns it as the page of the version shows it."""
    place = f"card/v{version.number}"
    folder = runs.new_folder(tracking, version.run_id, place)
    pictures = _pictures(tracking, version, folder)
    card = _contents(tracking, version, status, pictures)
    write_text(folder / "model_card.md", model_card(card))
    runs.store(tracking, version.run_id, folder, place)
    shown = [replace(one, address=_address(version, f"{place}/{one.address}")) for one in pictures]
    return model_card(replace(card, pictures=shown), most_characters=registry.DESCRIPTION_LETTERS)


def _address(version: Version, path: str) -> str:
    """Relative, so that it holds wherever MLflow's page is served from."""
    return f"get-artifact?{urlencode({'path': path, 'run_uuid': version.run_id})}"


def _pictures(tracking: Tracking, version: Version, folder: Path) -> list[CardPicture]:
    found = []
    for place, step, name, caption in _PICTURES:
        try:
            source = runs.fetch(tracking, version.run_id, place, step=step or version.tags["step"]) / name
            shutil.copyfile(source, folder / name)
        except (DarkroomError, OSError):
            continue  # A card without a picture says no less about the model.
        found.append(CardPicture(caption, name))
    return found


def _corrupted(tracking: Tracking, version: Version) -> CorruptedAccuracy | None:
    """None where the settings left it out, or the run has it of another file by now."""
    try:
        export = ExportRecord.read(runs.fetch(tracking, version.run_id, "export", step="quantize") / EXPORT)
        analysis = AnalysisRecord.read(runs.fetch(tracking, version.run_id, "served", step="quantize") / ANALYSIS)
    except DarkroomError:
        return None  # A card without it is still a card.
    means = {one.corruption: one for one in analysis.robustness_means}
    if ALL_CORRUPTIONS not in means or export.served_file.sha256 != version.sha256:
        return None
    return CorruptedAccuracy(
        images=analysis.robustness[0].images,
        clean=means[UNCORRUPTED].accuracy,
        accuracy=means[ALL_CORRUPTIONS].accuracy,
        interval=means[ALL_CORRUPTIONS].interval,
    )


def _on_card(score: str) -> bool:
    """Of coarser levels, and of means that say nearly the same, a card holds few; the run's record holds all scores."""
    name = without_level(score)
    return name in _OF_LEVELS if name != score else name == "micro_f1" or not name.startswith(("micro_", "weighted_"))


def _contents(tracking: Tracking, version: Version, status: Status, pictures: Sequence[CardPicture]) -> CardContents:
    decision, own = status.entry, status.own_entry
    assert decision is not None  # a version without a decision has no card
    assert own is not None
    record = own.record
    lineage = lineage_of(tracking, version)
    params = lineage.params
    return CardContents(
        name=version.name,
        version=version.number,
        format=version.tags["served"],
        architecture=params["model"]["architecture"],
        classes=record["classes"],
        num_classes=record["num_classes"],
        image_size_px=params["preprocess"]["image_size_px"],
        verdict=status.verdict,
        decided=f"{decision.who}, {decision.moment}",
        reasons=decision.reasons,
        rules=rules_of(tracking, version, own),
        top_k=params["evaluate"]["top_k"],
        corrupted=_corrupted(tracking, version),
        scores={name: value for name, value in record["scores"].items() if _on_card(name)},
        intervals=record["intervals"],
        test_images=record["test_images"],
        weakest=[WeakClass(**one) for one in record["weakest"]],
        size_bytes=record["measured"]["size_bytes"],
        latency_p50_ms=record["measured"].get("latency_p50_ms"),
        latency_p95_ms=record["measured"]["latency_p95_ms"],
        processor=version.tags.get("processor", "an unknown processor"),
        lineage={
            "git revision": lineage.git,
            "data version": version.tags["data_version"],
            "split digest": version.tags["split_digest"],
            "MLflow run": version.run_id,
            "SHA-256 of the file": version.sha256,
            "scored on": str(record.get("processor", "an unknown processor")),
            "ledger": f"entry {decision.number}, checksum {decision.checksum}",
        },
        pictures=pictures,
        qat_epochs=lineage.file.qat_epochs if lineage.file is not None else 0,
    )
