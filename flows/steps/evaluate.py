"""Score the torch model on the test split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.records.analysis import HIGH_CONFIDENCE_ERRORS, LOW_CONFIDENCE_CORRECT
from components.records.lineage import LINEAGE, LineageRecord
from components.records.members import MEMBERS, MemberScores, MembersRecord
from components.records.scores import SCORES, ScoresRecord
from components.shared.files import sha256_of_folder
from components.shared.plural import counted
from flows.console.console import progress
from flows.project.dvc import data_paths
from flows.project.fingerprint import Facts
from flows.session.session import Prepared, Session
from flows.steps.step import FingerprintedStep, Results
from flows.steps.train import Trained
from flows.tracking import runs

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from components.data.packed.loaders import PackedSplit
    from components.evaluation.bootstrap import Interval
    from components.evaluation.metrics import Scores
    from components.evaluation.predictions import Predictions
    from components.models.ensemble import Ensemble


@dataclass(frozen=True)
class Evaluated:
    """The scores of a torch model on the test split."""

    scores: ScoresRecord


class Evaluate(FingerprintedStep[Evaluated]):
    """Scores and analyses the torch model on the test split; the results stay on the model's run."""

    name = "evaluate"
    code = (
        "components.evaluation.model_analysis",
        "components.evaluation.decision_rule",
        "components.evaluation.model_comparison",
        "components.evaluation.inference",
        "components.evaluation.metrics",
        "components.evaluation.evaluation_files",
    )
    packages = ("torch", "scikit-learn", "torchmetrics")

    def inputs(self, session: Session, results: Results) -> Facts:
        return evaluation_inputs(session, results)

    def settings(self, session: Session) -> Facts:
        return session.params.evaluate.model_dump() | {"predict": session.params.predict.model_dump()}

    def find(self, session: Session, results: Results, key: str) -> Evaluated | None:
        run_id = results[Trained].run_id
        if runs.find_done(session.tracking, self.name, key) != run_id:
            return None
        return self._stored(session, run_id)

    def work(self, session: Session, results: Results, key: str) -> Evaluated:
        run_id = results[Trained].run_id
        _evaluate(session, results[Prepared], results[Trained])
        runs.finish(session.tracking, run_id, self.name, key, place="evaluate")
        return self._stored(session, run_id)

    def summary(self, session: Session, result: Evaluated) -> str:
        scores = result.scores
        images = counted(scores.images, "test image")
        return f"accuracy {scores.values['accuracy']:.4f}, macro F1 {scores.values['macro_f1']:.4f} on {images}"

    def _stored(self, session: Session, run_id: str) -> Evaluated:
        runs.note_use(session.tracking, run_id)
        return Evaluated(ScoresRecord.read(runs.fetch(session.tracking, run_id, "evaluate", step=self.name) / SCORES))


def evaluation_inputs(session: Session, results: Results) -> Facts:
    """What the scores of a model depend on besides the settings: its data, its weights and the OOD images."""
    return {
        "augmented": results[Prepared].augmented_digest,
        "data": results[Prepared].data_version,
        "model": results[Trained].run_id,
        "ood": folder_digest(session.project.root, session.params.evaluate.ood),
    }


def _evaluate(session: Session, prepared: Prepared, trained: Trained) -> None:
    from components.data.packed.decoded_cache import decoded_once
    from components.data.packed.loaders import open_split

    split = open_split(data_paths(session.project).augmented, "train")
    kept = session.decoded.file(session.project, prepared.augmented_digest)
    # It looks at few of them: nothing is said where they can't be kept.
    with decoded_once(split, kept) as train:
        _score_and_store(session, trained, train)


def _score_and_store(session: Session, trained: Trained, train: "PackedSplit") -> None:
    import pyarrow.parquet as pq

    from components.data.packed.loaders import open_split
    from components.evaluation.decision_rule import fit_decision_rule
    from components.evaluation.evaluation_files import write_analysis, write_scores
    from components.evaluation.inference import predict_split
    from components.evaluation.metrics import score
    from components.evaluation.model_analysis import analyse
    from components.evaluation.predictions import write_predictions
    from components.models.ensemble import Ensemble, open_model
    from components.reporting.figures import draw_answers, draw_heat_maps, draw_neighbours
    from components.shared.allocator import keep_freed_memory

    # Half of the time of a network's forward pass on a CPU went to giving memory back and taking it again.
    keep_freed_memory()
    settings, run_id, paths = session.params.evaluate, trained.run_id, data_paths(session.project)
    model = open_model(runs.fetch(session.tracking, run_id, "model", step=trained.step))
    if trained.step == "ensemble":
        logger.info("an ensemble has no heat maps of its own; its members' runs keep theirs")
    val, test = (open_split(paths.augmented, split) for split in ("val", "test"))
    rule = fit_decision_rule(predict_split(model, val, progress=progress()), session.params.predict)
    predictions = replace(predict_split(model, test, progress=progress()), rule=rule)
    scores = score(predictions, top_k=settings.top_k, num_resamples=settings.bootstrap_resamples, seed=settings.seed)
    analysis = analyse(
        model,
        predictions,
        test=test,
        train=train,
        table=pq.read_table(paths.validated / "images.parquet"),
        settings=settings,
        folder=session.project.root,
        progress=progress(),
    )
    folder = runs.new_folder(session.tracking, run_id, "evaluate")
    write_predictions(folder / "predictions.parquet", predictions)
    write_scores(folder, scores, analysis.slices)
    write_analysis(folder, analysis, predictions, test.pixels_NHWC)
    draw_answers(scores, predictions, test.pixels_NHWC, folder, most=settings.worst_errors)
    for name, inspected_images in (
        (HIGH_CONFIDENCE_ERRORS, analysis.high_confidence_errors),
        (LOW_CONFIDENCE_CORRECT, analysis.low_confidence_correct),
    ):
        draw_neighbours(inspected_images, test.pixels_NHWC, train.pixels_NHWC, folder / name)
    draw_heat_maps(analysis.heat_maps, test.pixels_NHWC, folder / "heat_maps.png")
    if isinstance(model, Ensemble):
        _store_members(session, trained, folder, _members(session, trained, model, predictions))
    runs.store(session.tracking, run_id, folder, "evaluate")
    of_analysis = with_intervals(analysis.headline(), analysis.headline_intervals())
    runs.log_metrics(session.tracking, run_id, metrics_of("torch", scores) | of_analysis)


def _members(session: Session, trained: Trained, model: "Ensemble", predictions: "Predictions") -> list[MemberScores]:
    """Each member on the test split, by the names that the run's lineage has for them."""
    from components.data.packed.loaders import open_split
    from components.evaluation.decision_rule import fit_decision_rule
    from components.evaluation.inference import predict_split
    from components.evaluation.model_comparison import beside_members

    settings, augmented = session.params.evaluate, data_paths(session.project).augmented
    val, test = (open_split(augmented, split) for split in ("val", "test"))
    lineage = LineageRecord.read(runs.fetch(session.tracking, trained.run_id, "lineage", step=trained.step) / LINEAGE)
    found = {}
    for name, member in zip(lineage.members, model.members, strict=True):
        rule = fit_decision_rule(predict_split(member, val, progress=progress()), session.params.predict)
        found[name] = replace(predict_split(member, test, progress=progress()), rule=rule)
    return beside_members(
        predictions, found, top_k=settings.top_k, num_resamples=max(settings.bootstrap_resamples, 1), seed=settings.seed
    )


def _store_members(session: Session, trained: Trained, folder: Path, members: "Sequence[MemberScores]") -> None:
    """In the record of the evaluation, in a table on the run's page, and a line each."""
    MembersRecord(members=list(members)).write(folder / MEMBERS)
    runs.log_table(session.tracking, trained.run_id, MEMBERS, columns_of([asdict(one) for one in members]))
    for one in members:
        low, high = one.interval
        logger.info(
            f"{one.name}: accuracy {one.accuracy:.4f}, {one.difference:+.4f} ({low:+.4f} to {high:+.4f}) to the "
            f"ensemble (p = {one.p_corrected:.3f}), macro F1 {one.macro_f1:.4f}"
        )


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A table of plain columns: the ends of X_interval are X_low and X_high; `interval` is that of the difference."""
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "interval" and not name.endswith("_interval"):
                columns.setdefault(name, []).append(value)
                continue
            stem = name.removesuffix("_interval") if name != "interval" else "difference"
            for end, edge in zip(("low", "high"), value or (None, None), strict=True):
                columns.setdefault(f"{stem}_{end}", []).append(edge)
    return columns


def members_of(session: Session, run_id: str) -> list[MemberScores]:
    """Scores of the members of an evaluated ensemble."""
    return MembersRecord.read(runs.fetch(session.tracking, run_id, "evaluate", step="evaluate") / MEMBERS).members


def metrics_of(place: str, scores: "Scores") -> dict[str, float]:
    """The headline below a place of the tracking server, each score with the ends of its interval."""
    found = with_intervals(scores.headline(), scores.headline_intervals())
    return {f"{place}/{name}": value for name, value in found.items()}


def with_intervals(values: Mapping[str, float], intervals: "Mapping[str, Interval]") -> dict[str, float]:
    """Each value with the ends of its interval, where it has one, as NAME_low and NAME_high."""
    found = dict(values)
    for name, (low, high) in intervals.items():
        found |= {f"{name}_low": low, f"{name}_high": high}
    return found


def folder_digest(root: Path, folder: str | None) -> str | None:
    """Of the names and contents below a folder of the project; None where none is asked for."""
    if folder is None:
        return None
    return sha256_of_folder(root / folder)
