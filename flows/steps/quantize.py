"""Export to ONNX, quantize to int8, measure both, and choose the file that would be served."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.export.settings import after_epochs
from components.records.export import EXPORT, ExportRecord, ScoresOnTest
from components.records.lineage import LINEAGE, LineageRecord
from components.reporting.latency_text import latency_text
from flows.console.console import progress
from flows.project.dvc import data_paths
from flows.project.fingerprint import Facts
from flows.project.image_files import raw_files
from flows.session.session import Prepared, Session
from flows.steps.evaluate import evaluation_inputs, metrics_of, with_intervals
from flows.steps.qat import quantization_aware
from flows.steps.step import FingerprintedStep, Results
from flows.steps.train import Trained
from flows.steps.training_run import QAT
from flows.tracking import runs

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from components.data.packed.loaders import PackedSplit
    from components.evaluation.metrics import Scores
    from components.evaluation.predictions import Predictions
    from components.serving.onnx_classifier import OnnxClassifier


@dataclass(frozen=True)
class Exported:
    """The exported files of a model and which of them would be served."""

    run_id: str
    step: str
    """The step that made the model: train, finetune or ensemble."""
    record: ExportRecord


class Quantize(FingerprintedStep[Exported]):
    """Exports the model to ONNX and int8, scores and times the files, and chooses the one to serve."""

    name = "quantize"
    exports = True
    code = (
        "components.evaluation.model_analysis",
        "components.evaluation.metrics",
        "components.evaluation.evaluation_files",
        "components.export.exporter",
        "components.serving.timing_probe",
        "components.training.process",
    )
    packages = ("torch", "lightning", "onnx", "onnxruntime")

    def inputs(self, session: Session, results: Results) -> Facts:
        return evaluation_inputs(session, results)

    def settings(self, session: Session) -> Facts:
        params = session.params
        return params.quantize.model_dump() | params.evaluate.model_dump() | {"predict": params.predict.model_dump()}

    def find(self, session: Session, results: Results, key: str) -> Exported | None:
        trained = results[Trained]
        if runs.find_done(session.tracking, self.name, key) != trained.run_id:
            return None
        return self._stored(session, trained)

    def work(self, session: Session, results: Results, key: str) -> Exported:
        trained = results[Trained]
        _export(session, results[Prepared], trained)
        runs.finish(session.tracking, trained.run_id, self.name, key, place="export")
        return self._stored(session, trained)

    def summary(self, session: Session, result: Exported) -> str:
        return _summary(result.record)

    def _stored(self, session: Session, trained: Trained) -> Exported:
        record = ExportRecord.read(export_folder(session, trained.run_id) / EXPORT)
        return Exported(trained.run_id, trained.step, record)


def served_file(session: Session, exported: Exported) -> Path:
    return export_folder(session, exported.run_id) / f"model_{exported.record.served}.onnx"


def export_folder(session: Session, run_id: str) -> Path:
    """export.json and the model files of a run."""
    return runs.fetch(session.tracking, run_id, "export", step="quantize")


def _export(session: Session, prepared: Prepared, trained: Trained) -> None:
    from components.data.packed.decoded_cache import decoded_once
    from components.data.packed.loaders import open_split
    from components.evaluation.decision_rule import shortcomings
    from components.export.exporter import Images, export_model
    from components.models.classifier import ImageClassifier
    from components.models.ensemble import open_model
    from components.reporting.figures import draw_formats
    from components.serving.onnx_classifier import ModelCard
    from components.training.settings import FakeQuantization

    settings, augmented = session.params.quantize, data_paths(session.project).augmented
    run_id = trained.run_id
    folder = runs.new_folder(session.tracking, run_id, "export")
    model = open_model(runs.fetch(session.tracking, run_id, "model", step=trained.step))
    lineage = runs.fetch(session.tracking, run_id, "lineage", step=trained.step)
    card = ModelCard(
        architecture=model.spec.architecture,
        labels=model.spec.labels,
        preprocess=model.spec.preprocess,
        format="fp32",
        data_version=prepared.data_version,
        run_id=run_id,
        code_version=LineageRecord.read(lineage / LINEAGE).git,
        mean=None if trained.step == "ensemble" else model.spec.mean,
        std=None if trained.step == "ensemble" else model.spec.std,
        provider=settings.provider,
    )

    def fine_tune(rounding: FakeQuantization) -> ImageClassifier:
        return quantization_aware(session, prepared, trained, rounding, folder / QAT)

    kept = session.decoded.file(session.project, prepared.augmented_digest)
    val = open_split(augmented, "val")
    with decoded_once(open_split(augmented, "train"), kept) as train:
        exported = export_model(
            model,
            folder,
            card=card,
            images=Images(
                train=train,
                val=val,
                raw=raw_files(session.project, "test", most=settings.parity_images),
            ),
            settings=settings,
            predict=session.params.predict,
            # The members of an ensemble were trained each for itself.
            fine_tune=None if trained.step == "ensemble" else fine_tune,
        )
    test, tests = open_split(augmented, "test"), {}
    for name, one in exported.formats.items():
        # One at a time, for the predictions of very many images and classes are large.
        scored = _score_file(one.file, test, session)
        tests[name] = ScoresOnTest(scored.model.sha256, scored.scores.headline(), scored.scores.headline_intervals())
        if name == exported.choice.served:
            served = scored
    for sentence in shortcomings(served.model.card.decision_rule, len(val)):
        logger.warning(sentence)
    record = exported.as_record(tests)
    record.write(folder / EXPORT)
    draw_formats(record.formats, folder / "formats.png")
    runs.store(session.tracking, run_id, folder, "export")
    _store_served_scores(session, run_id, served, test)
    _log(session, run_id, record)


@dataclass(frozen=True)
class ScoredFile:
    """An exported file with its predictions on the test split."""

    model: "OnnxClassifier"
    predictions: "Predictions"
    scores: "Scores"


def _score_file(file: Path, test: "PackedSplit", session: Session) -> ScoredFile:
    from components.evaluation.metrics import score
    from components.evaluation.served_predictions import predict_packed
    from components.serving.onnx_classifier import OnnxClassifier

    settings = session.params.evaluate
    model = OnnxClassifier(file, provider=session.params.quantize.provider)
    predictions = predict_packed(model, test)
    scores = score(predictions, top_k=settings.top_k, num_resamples=settings.bootstrap_resamples, seed=settings.seed)
    return ScoredFile(model, predictions, scores)


def _store_served_scores(session: Session, run_id: str, scored: ScoredFile, test: "PackedSplit") -> None:
    """Stores scores, analysis and pictures of the very file that would be served, under `served`."""
    import pyarrow.parquet as pq

    from components.evaluation.evaluation_files import write_analysis, write_scores
    from components.evaluation.model_analysis import analyse_predictions
    from components.evaluation.predictions import write_predictions
    from components.evaluation.served_predictions import logits_of_squares
    from components.reporting.figures import draw_answers

    settings, predictions = session.params.evaluate, scored.predictions
    analysis = analyse_predictions(
        lambda images_NHWC: logits_of_squares(scored.model, images_NHWC),
        predictions,
        pixels_NHWC=test.pixels_NHWC,
        preprocess=scored.model.card.preprocess,
        table=pq.read_table(data_paths(session.project).validated / "images.parquet"),
        settings=settings,
        folder=session.project.root,
        progress=progress(),
    )
    folder = runs.new_folder(session.tracking, run_id, "served")
    write_predictions(folder / "predictions.parquet", predictions)
    write_scores(folder, scored.scores, analysis.slices)
    write_analysis(folder, analysis, predictions, test.pixels_NHWC)
    draw_answers(scored.scores, predictions, test.pixels_NHWC, folder, most=settings.worst_errors)
    runs.store(session.tracking, run_id, folder, "served")
    of_analysis = with_intervals(analysis.headline(), analysis.headline_intervals())
    metrics = metrics_of("served", scored.scores) | {f"served/{name}": value for name, value in of_analysis.items()}
    runs.log_metrics(session.tracking, run_id, metrics)


def _log(session: Session, run_id: str, record: ExportRecord) -> None:
    metrics = {"parity/max_logit_difference": record.formats["fp32"].parity.max_logit_difference}
    for name, one in record.formats.items():
        metrics |= {f"onnx_{name}/{key}": value for key, value in one.test.values.items()}
        metrics |= {
            f"onnx_{name}/bytes": one.measured.size_bytes,
            f"onnx_{name}/latency_p50_ms": one.measured.latency.p50_ms,
        }
    runs.log_metrics(session.tracking, run_id, metrics)
    runs.set_tags(session.tracking, run_id, {"darkroom.served": record.served})
    for reason in record.reasons:
        logger.info(reason)


def _summary(record: ExportRecord) -> str:
    served = record.served_file
    ratio = record.formats["int8"].measured.size_bytes / record.formats["fp32"].measured.size_bytes
    took = latency_text(served.measured.latency.p50_ms, served.measured.latency.p95_ms)
    return (
        f"would serve {record.served}{after_epochs(served.measured.qat_epochs)}: accuracy "
        f"{served.test.values['accuracy']:.4f}, {served.measured.size_bytes:,} bytes, {took} an image; "
        f"int8 has {ratio:.2f} of fp32's bytes"
    )
