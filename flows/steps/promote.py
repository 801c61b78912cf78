"""Have the gate decide on a registered version, write the decision into the ledger, and move the aliases last."""

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from components.data.raw.dataset import read_raw_dataset
from components.evaluation.paired_test import PairedComparison
from components.promotion import gate
from components.promotion.ledger import Action, Draft, Status, Verdict, champions
from components.promotion.recorded_rules import DIGEST, shortened, shortened_reasons
from components.records.export import EXPORT, ExportRecord
from components.records.leak_proof import LEAK_PROOF, LeakProof
from components.records.lineage import LINEAGE, LineageRecord
from components.records.scores import SCORES, Interval, ScoresRecord, SliceScores
from components.reporting.model_card import WeakClass
from components.shared.errors import DataError, ServiceError, SettingsError
from components.shared.files import read_json, sha256_of_record
from components.shared.processor import this_processor
from flows.project.dvc import data_paths, restore_raw
from flows.project.fingerprint import fingerprint
from flows.project.image_files import image_files
from flows.project.user import current_user
from flows.registry.decision import decide
from flows.registry.lineage import images_of, known_images, training_lineage, version_lineage
from flows.registry.version_page import keep_rules, rules_of, show_page
from flows.session.session import Prepared, Session, Stopwatch
from flows.steps.quantize import export_folder
from flows.steps.register import Registered
from flows.steps.step import Results, TimedStep
from flows.tracking import registry, runs
from flows.tracking.ledger import Ledger
from flows.tracking.registry import Version
from flows.tracking.serving_check import SERVING_CHECK

if TYPE_CHECKING:
    from components.evaluation.predictions import Predictions
    from components.evaluation.score_differences import Changes
    from components.evaluation.served_predictions import ImageFiles

logger = logging.getLogger(__name__)

_CODE = (
    "components.promotion.gate",
    "components.evaluation.score_differences",
    "components.evaluation.served_predictions",
    "components.evaluation.slices",
)
_NAMED, _WEAKEST = 12, 3
"""Classes that the model card names: the first ones, and those with the lowest recall."""


@dataclass(frozen=True)
class GateOutcome:
    """What the gate decided on a version, and why."""

    version: str
    promoted: bool
    """Whether it serves now."""
    status: Verdict
    """Where it stands by the ledger."""
    reasons: list[str]


@dataclass(frozen=True)
class Promoted(GateOutcome):
    """A decision with every rule behind it."""

    rules: list[gate.RuleVerdict]

    @property
    def outcome(self) -> GateOutcome:
        """The decision without its rules."""
        return GateOutcome(self.version, self.promoted, self.status, self.reasons)


@dataclass(frozen=True)
class Promote(TimedStep[Promoted]):
    """Lets the gate decide on a version. A bad score is a result: nothing is raised, and no alias moves."""

    name = "promote"
    version: str | None = None
    """None takes the version that this run registered."""
    again: bool = False
    """Whether the gate decides again on a version that it decided on by the same rules, on the same images and against
    the same champion, or that was rolled back."""

    def find_or_work(self, session: Session, results: Results, watch: Stopwatch) -> Promoted:
        name, prepared = session.params.register.name, results[Prepared]
        number = self.version or results[Registered].version
        check_levels(session)
        version = registry.require_ours(registry.get_version(session.tracking, name, number))
        gate_step = _Gate(session, prepared, version, again=self.again)
        decided = decide(session.project, session.tracking, name, gate_step.draft, versions=[version])
        if decided.entry is None:
            watch.reused("")
        now = decided.ledger
        status = now.status(version.number)
        reasons = _reasons(version, status, now.champion)
        rules = rules_of(session.tracking, version, status.own_entry) if status.own_entry else []
        promoted = status.verdict == "promoted" and now.champion == version.number
        outlived = status.verdict in ("promoted", "rolled back") and not promoted
        watch.note = f"{'not promoted' if outlived else status.verdict}: {'; '.join(reasons)}"
        return Promoted(version.number, promoted, status.verdict, reasons, rules)

    def run(self, session: Session, results: Results) -> Promoted:
        outcome = super().run(session, results)
        show_page(
            session.project, registry.get_version(session.tracking, session.params.register.name, outcome.version)
        )
        return outcome


def newest_version(session: Session) -> str:
    """The number of the version that was registered last; raises SettingsError where there is none."""
    name = session.params.register.name
    known = registry.versions(session.tracking, name)
    if not known:
        raise SettingsError(f"{name} has no version yet; run `darkroom register` first")
    return known[0].number


def check_levels(session: Session) -> None:
    """Raises SettingsError where the gate asks for scores of a level that the labels of the current data don't have.

    Data that are gone are brought back first; DataError where they can't be had.
    """
    restore_raw(session.project)
    session.params.promote.check_levels(read_raw_dataset(data_paths(session.project).raw).levels)


@dataclass(frozen=True)
class _Gate:
    """Decides given a ledger; asked again where another decision came between."""

    session: Session
    prepared: Prepared
    version: Version
    again: bool

    def draft(self, now: Ledger) -> Draft | None:
        """None where the last decision on the version holds."""
        if _holds(self.session, self.prepared, self.version, now, again=self.again):
            return None
        session, version, settings = self.session, self.version, self.session.params.promote
        champion = _champion(session, version, now)
        with image_files(session.project, "test") as files:
            candidate, predictions = _candidate(session, version, files)
            comparison = _compare(session, champion, files, predictions) if champion is not None else None
        decision = gate.decide(candidate, comparison, settings)
        action, reasons = _action(decision, version, now, waits=settings.approval)
        recorded = shortened(decision.rules)
        if DIGEST in recorded:
            keep_rules(session.tracking, version, recorded[DIGEST], decision.rules)
        return Draft(
            action=action,
            version=version.number,
            champion=version.number if action == "promoted" else now.champion,
            who=current_user(),
            reasons=shortened_reasons(reasons),
            record={
                "run_id": version.run_id,
                "sha256": version.sha256,
                "data_version": self.prepared.data_version,
                "split_digest": self.prepared.split_digest,
                "fingerprint": _fingerprint(session, self.prepared, version, champion.number if champion else None),
                **recorded,
                "scores": dict(candidate.scores),
                "intervals": _intervals(session, version),
                "classes": [one.label for one in candidate.classes[:_NAMED]],
                "num_classes": len(candidate.classes),
                "weakest": [asdict(one) for one in _weakest(candidate)],
                "test_images": len(predictions.path_N),
                "processor": str(candidate.processor),
                "measured": {
                    "size_bytes": candidate.measured.size_bytes,
                    "latency_p50_ms": candidate.measured.latency_p50_ms,
                    "latency_p95_ms": candidate.measured.latency_p95_ms,
                },
                "comparison": asdict(comparison) if comparison else None,
            },
        )


def _weakest(candidate: gate.Candidate) -> list[WeakClass]:
    """The classes with the lowest recall, as a model card names them."""
    present = sorted((one for one in candidate.classes if one.images), key=lambda one: one.recall)
    return [WeakClass(one.label, recall=one.recall, images=one.images) for one in present[:_WEAKEST]]


def _action(decision: gate.Decision, version: Version, now: Ledger, *, waits: bool) -> tuple[Action, list[str]]:
    if not decision.promoted:
        return "refused", decision.reasons
    if waits and now.champion != version.number:
        remedy = f'waits for a person: darkroom approve "{version.name}" {version.number}, or darkroom refuse'
        return "awaiting approval", [*decision.reasons, remedy]
    return "promoted", decision.reasons


def _reasons(version: Version, status: Status, serving: str | None) -> list[str]:
    """The reasons; of what was promoted and doesn't serve, what came of it and how to promote it after all."""
    serves = f"version {serving} serves" if serving else "no version serves"
    remedy = f"to promote it after all: darkroom promote --version {version.number}"
    if status.verdict == "rolled back" and status.entry is not None:
        entry = status.entry
        return [f"it was rolled back by {entry.who} on {entry.moment} ({'; '.join(entry.reasons)}), {serves}; {remedy}"]
    if status.verdict == "promoted" and serving != version.number:
        return [*status.reasons, f"{serves}, which was promoted after it; {remedy}"]
    if status.verdict == "refused" and serving == version.number:
        rest = "it serves all the same, until another version is promoted, or `darkroom rollback` takes it back"
        return [*status.reasons, rest]
    return status.reasons


def _holds(session: Session, prepared: Prepared, version: Version, now: Ledger, *, again: bool) -> bool:
    """Whether the last decision on the version holds."""
    if again and now.champion != version.number:
        return False
    status = now.status(version.number)
    if status.verdict == "rolled back":
        # What a person rolled back only a person promotes again.
        return True
    other = [number for number in champions(now.current) if number != version.number]
    wanted = _fingerprint(session, prepared, version, other[-1] if other else None)
    return status.own_entry is not None and status.own_entry.record.get("fingerprint") == wanted


def _fingerprint(session: Session, prepared: Prepared, version: Version, champion: str | None) -> str:
    return fingerprint(
        "promote",
        inputs={"sha256": version.sha256, "split": prepared.split_digest, "champion": champion},
        settings={
            "promote": session.params.promote.model_dump(),
            "top_k": session.params.evaluate.top_k,
            "max_logit_difference": session.params.quantize.max_logit_difference,
            "min_agreement": session.params.quantize.min_agreement,
        },
        code=_CODE,
        packages=(),
    )


def _champion(session: Session, version: Version, now: Ledger) -> Version | None:
    """The champion that the version is compared with; None where it is the champion, or there is none."""
    name = session.params.register.name
    if not now.entries:
        # A registry that was used before there was a ledger.
        found = registry.champion(session.tracking, name)
        return found if found is not None and found.number != version.number else None
    if now.champion in (None, version.number):
        return None
    try:
        return registry.require_ours(registry.get_version(session.tracking, name, str(now.champion)))
    except SettingsError:
        raise SettingsError(registry.champion_deleted(name, str(now.champion))) from None


def _candidate(session: Session, version: Version, files: "ImageFiles") -> tuple[gate.Candidate, "Predictions"]:
    from components.evaluation.metrics import score
    from components.evaluation.served_predictions import predictions_of_files
    from components.serving.onnx_classifier import OnnxClassifier

    model = OnnxClassifier(registry.fetch_model(session.tracking, version), expected_sha256=version.sha256)
    if model.fallback_reason is not None:
        raise ServiceError(
            f"{version.name} version {version.number} can't be scored here: {model.fallback_reason}; promote it where "
            "it will serve, or export it again with another quantize.provider"
        )
    try:
        predictions = predictions_of_files(model, files)
    except DataError as problem:
        raise DataError(
            f"{version.name} version {version.number} can't be scored on the current test split: {problem}; "
            "train on this data"
        ) from None
    scores = score(predictions, top_k=session.params.evaluate.top_k)
    proof = LeakProof.read(data_paths(session.project).split / LEAK_PROOF)
    own = images_of(training_lineage(session.tracking, version), ("train",))
    candidate = gate.Candidate(
        format=version.tags["served"],
        sha256=version.sha256,
        scores=scores.headline(),
        intervals=scores.headline_intervals(),
        images=len(predictions.target),
        baseline_accuracy=predictions.baseline_accuracy,
        classes=scores.classes,
        slices=_slices(session, predictions),
        measured=_measured(session, version),
        processor=this_processor(),
        max_parity_difference=session.params.quantize.max_logit_difference,
        min_agreement=session.params.quantize.min_agreement,
        pairs_across_splits=proof.leaks.pairs_across_splits,
        comparisons_left_out=proof.comparisons_left_out,
        split_digest=version.tags["split_digest"],
        proof_digest=proof.split_digest,
        test_images_trained_on=sum(sha256 in own for sha256 in files.sha256_N),
        validation_passed=_validation_passed(session, version),
    )
    return candidate, predictions


def _slices(session: Session, predictions: "Predictions") -> list[SliceScores]:
    """Of the test split, where a floor asks for them."""
    from components.evaluation.slices import slice_scores

    settings = session.params.promote
    if not settings.slice_floors:
        return []
    table = pq.read_table(data_paths(session.project).validated / "images.parquet")
    return slice_scores(predictions, table, min_images=settings.min_slice_images)


def _intervals(session: Session, version: Version) -> dict[str, Interval]:
    """Those that `quantize` found for the very file; none where it made another one since then."""
    export = ExportRecord.read(export_folder(session, version.run_id) / EXPORT)
    if export.served_file.sha256 != version.sha256:
        return {}
    scored = runs.fetch(session.tracking, version.run_id, "served", step="quantize")
    return ScoresRecord.read(scored / SCORES).intervals


def _measured(session: Session, version: Version) -> gate.GateMeasurements:
    """What `quantize` measured of this very file; another file of the same run says nothing of it."""
    serving_check = _serving_check(session, version)
    export = ExportRecord.read(export_folder(session, version.run_id) / EXPORT)
    own = export.file_of(version.sha256)
    if own is None:
        return gate.GateMeasurements(serving_check=serving_check)
    return gate.GateMeasurements(
        size_bytes=own.measured.size_bytes,
        latency_p50_ms=own.measured.latency.p50_ms,
        latency_p95_ms=own.measured.latency.p95_ms,
        parity_difference=export.formats["fp32"].parity.max_logit_difference,
        parity=own.parity,
        processor=export.processor,
        scores=own.test.values,
        fp32_scores=export.formats["fp32"].test.values,
        serving_check=serving_check,
    )


def _serving_check(session: Session, version: Version) -> bool | None:
    """Of the package that the registry holds; ServiceError where that isn't the one which was checked."""
    file = version_lineage(session.tracking, version) / SERVING_CHECK
    if not file.exists() or registry.PACKAGE_TAG not in version.tags:
        return None
    record = read_json(file)
    if session.params.promote.serving_check:
        registry.require_package(session.tracking, version)
    return bool(record["passed"]) if record["package_sha256"] == version.tags[registry.PACKAGE_TAG] else None


def _validation_passed(session: Session, version: Version) -> bool | None:
    """Of the data version that the version names; training may have seen the same images in an earlier one."""
    folder = version_lineage(session.tracking, version)
    report = folder / "validation.json"
    same = LineageRecord.read(folder / LINEAGE).data_version == version.tags["data_version"]
    return bool(read_json(report)["passed"]) if report.exists() and same else None


def _compare(
    session: Session, champion: Version, files: "ImageFiles", predictions: "Predictions"
) -> gate.ChampionComparison:
    """On the same images, without those that the champion knows: it learned from them or was chosen by them."""
    from components.evaluation.predictions import predictions_at

    seen = known_images(session, champion, ("train", "val"))
    kept = [place for place, sha256 in enumerate(files.sha256_N) if sha256 not in seen]
    truth = [sorted(labels) for labels in files.labels_N]
    changes = _changes(session, champion, files.at(kept), predictions_at(predictions, kept)) if kept else None
    return gate.ChampionComparison(
        version=champion.number,
        images=len(kept),
        taken_out=len(files) - len(kept),
        test_digest=sha256_of_record(sorted((files.sha256_N[place], truth[place]) for place in kept)),
        challenger=changes.challenger if changes else {},
        champion=changes.champion if changes else {},
        intervals=changes.intervals if changes else {},
        paired=changes.paired if changes else PairedComparison(0, 0, 0, 0.0),
    )


def _changes(session: Session, champion: Version, files: "ImageFiles", own: "Predictions") -> "Changes":
    """A champion with other classes compares by the names that it says, and by accuracy and macro F1 alone."""
    from components.evaluation.score_differences import changes_between, changes_by_name
    from components.evaluation.served_predictions import predicted_names, predictions_of_files
    from components.serving.onnx_classifier import OnnxClassifier

    model = OnnxClassifier(registry.fetch_model(session.tracking, champion), expected_sha256=champion.sha256)
    if model.fallback_reason is not None:
        logger.warning(f"the champion, {champion.name} version {champion.number}: {model.fallback_reason}")
    settings = session.params.promote
    names, confidence = settings.max_drop_against_champion or {}, settings.confidence
    if model.card.labels == own.task:
        other, top_k = predictions_of_files(model, files), session.params.evaluate.top_k
        return changes_between(own, other, names, confidence=confidence, top_k=top_k)
    truth, own_N = (own.task.names(of) for of in (own.target, own.predicted))
    return changes_by_name(truth, own_N, predicted_names(model, files), names, confidence=confidence)
