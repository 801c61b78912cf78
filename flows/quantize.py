"""Export to ONNX, quantize to int8, measure both, and choose the file that would be served."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import flow

from components.export.settings import QuantizeSettings
from components.files import read_json, write_json
from flows.console import say
from flows.evaluate import Evaluated, metrics_of, up_to_evaluated
from flows.fingerprint import fingerprint
from flows.prepare import Prepared
from flows.repro import data_paths
from flows.session import Session, StepTime, alone, open_session, timed
from flows.tasks import step
from flows.tracking import runs
from flows.train import Trained

if TYPE_CHECKING:
    from components.data.loading import PackedPart
    from components.serving.classifier import ModelCard

_CODE = (
    "components.evaluation.answers",
    "components.evaluation.metrics",
    "components.evaluation.records",
    "components.evaluation.slices",
    "components.export.onnx_export",
    "components.export.quantization",
    "components.export.parity",
    "components.export.latency",
    "components.export.choice",
)


@dataclass(frozen=True)
class Exported:
    run_id: str
    step: str
    """The step that left the model there: train or finetune."""
    record: dict[str, Any]
    """export.json: parity, formats.{fp32,int8}, served and why."""
    time: StepTime


@step("quantize")
def quantize_model(session: Session, prepared: Prepared, evaluated: Evaluated) -> Exported:
    with timed("quantize") as watch:
        run_id = evaluated.trained.run_id
        mark = fingerprint(
            "quantize",
            inputs={"augmented": prepared.augmented_digest, "data": prepared.data_version, "model": run_id},
            settings=session.params.quantize.model_dump() | session.params.evaluate.model_dump(),
            code=_CODE,
            packages=("torch", "onnx", "onnxruntime"),
        )
        with alone(session, mark):
            if runs.find_done(session.tracking, "quantize", mark) == run_id:
                watch.reused()
            else:
                _export(session, prepared, evaluated.trained)
                runs.finish(session.tracking, run_id, "quantize", mark, place="export")
        record = read_json(export_folder(session, run_id) / "export.json")
        watch.note = _summary(record)
    return Exported(run_id, evaluated.trained.step, record, watch.time())


def served_file(session: Session, exported: Exported) -> Path:
    return export_folder(session, exported.run_id) / f"model_{exported.record['served']}.onnx"


def export_folder(session: Session, run_id: str) -> Path:
    """export.json and the model files of a run."""
    return runs.fetch(session.tracking, run_id, "export", step="quantize")


def _export(session: Session, prepared: Prepared, trained: Trained) -> None:
    from components.data.loading import open_part
    from components.export.choice import choose
    from components.export.onnx_export import export_onnx
    from components.export.parity import torch_parity
    from components.models.classifier import load_classifier
    from components.serving.classifier import ModelCard, OnnxClassifier

    settings, augmented = session.params.quantize, data_paths(session.project).augmented
    run_id = trained.run_id
    folder = runs.new_folder(session.tracking, run_id, "export")
    model = load_classifier(runs.fetch(session.tracking, run_id, "model", step=trained.step))
    card = ModelCard(
        architecture=model.spec.architecture,
        labels=model.spec.labels,
        preprocess=model.spec.preprocess,
        format="fp32",
        data_version=prepared.data_version,
        run_id=run_id,
    )
    fp32 = folder / "model_fp32.onnx"
    export_onnx(model, fp32, card=card)
    parity = torch_parity(model, OnnxClassifier(fp32), _raw_test_files(session, settings.parity_images))
    val, test = open_part(augmented, "val"), open_part(augmented, "test")
    variants = _quantized(folder, fp32, open_part(augmented, "train"), card, settings)
    measured = {name: _measure(file, val, test, session) for name, file in variants.items()}
    reference = measured.pop("fp32")
    choice = choose(reference, measured, settings)
    variants[choice.int8].replace(folder / "model_int8.onnx")
    for name, file in variants.items():
        if name not in ("fp32", choice.int8):
            file.unlink()
    record = {
        "parity": asdict(parity),
        "formats": {"fp32": _without_answers(reference), "int8": _without_answers(measured[choice.int8])},
        "int8_variant": choice.int8,
        "int8_variants": {name: _without_answers(one) for name, one in measured.items()},
        "served": choice.served,
        "reasons": choice.reasons,
    }
    write_json(folder / "export.json", record)
    runs.store(session.tracking, run_id, folder, "export")
    _judge_served(session, run_id, folder / f"model_{choice.served}.onnx", test)
    _log(session, run_id, record)


def _raw_test_files(session: Session, count: int) -> list[bytes]:
    """Bytes of test images as they came, spread evenly over the part."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from components.data.raw import RawImages

    paths = data_paths(session.project)
    table = pq.read_table(paths.split / "split.parquet")
    table = table.filter(pc.equal(table["part"], "test"))
    chosen = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).astype(int))
    with RawImages(paths.raw) as store:
        rows = table.select(["shard", "offset", "size_bytes"]).take(chosen).to_pylist()
        return [store.read(**row) for row in rows]


def _quantized(
    folder: Path, fp32: Path, train: "PackedPart", card: "ModelCard", settings: QuantizeSettings
) -> dict[str, Path]:
    from components.export.quantization import VARIANTS, calibration_sample, quantize

    originals = np.flatnonzero(train.copy_N == 0)
    sample = train.pixels_NHWC[originals[calibration_sample(originals, settings.calibration_images)]]
    files = {"fp32": fp32}
    for variant in VARIANTS:
        files[variant.name] = folder / f"model_{variant.name}.onnx"
        quantize(fp32, files[variant.name], variant=variant, calibration_NHWC=sample, card=card)
    return files


def _measure(file: Path, val: "PackedPart", test: "PackedPart", session: Session) -> dict[str, Any]:
    """Scores of the file by the rule for its answers that is fitted on validation, and written into it."""
    from components.evaluation.answers import fit_answers
    from components.evaluation.metrics import score
    from components.evaluation.served import predict_packed
    from components.export.latency import measure_latency
    from components.export.onnx_export import write_answers
    from components.serving.classifier import OnnxClassifier

    on_val = predict_packed(OnnxClassifier(file), val)
    rule = fit_answers(on_val)
    write_answers(file, rule)
    model = OnnxClassifier(file)
    answers = {"val": replace(on_val, answers=rule), "test": predict_packed(model, test)}
    latency = measure_latency(model, np.array(test.pixels_NHWC[0]), runs=session.params.quantize.latency_runs)
    return {
        "sha256": model.sha256,
        "bytes": file.stat().st_size,
        "latency": asdict(latency),
        "validation_accuracy": float(answers["val"].correct_N.mean()),
        "validation_answers": answers["val"].predicted,
        "test": score(answers["test"], top_k=session.params.evaluate.top_k).headline(),
    }


def _judge_served(session: Session, run_id: str, file: Path, test: "PackedPart") -> None:
    """All scores of the very file that would be served, with intervals and slices, under `served`."""
    import pyarrow.parquet as pq

    from components.evaluation.metrics import score
    from components.evaluation.predictions import write_predictions
    from components.evaluation.records import write_scores
    from components.evaluation.served import predict_packed
    from components.evaluation.slices import slice_scores
    from components.serving.classifier import OnnxClassifier

    settings = session.params.evaluate
    predictions = predict_packed(OnnxClassifier(file), test)
    scores = score(predictions, top_k=settings.top_k, num_draws=settings.bootstrap_draws, seed=settings.seed)
    table = pq.read_table(data_paths(session.project).validated / "images.parquet")
    folder = runs.new_folder(session.tracking, run_id, "served")
    write_predictions(folder / "predictions.parquet", predictions)
    write_scores(folder, scores, slice_scores(predictions, table, min_images=settings.min_slice_images))
    runs.store(session.tracking, run_id, folder, "served")
    runs.log_metrics(session.tracking, run_id, metrics_of("served", scores))


def _without_answers(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in measured.items() if name != "validation_answers"}


def _log(session: Session, run_id: str, record: dict[str, Any]) -> None:
    metrics = {"parity/max_logit_difference": record["parity"]["max_logit_difference"]}
    for name, one in record["formats"].items():
        metrics |= {f"onnx_{name}/{key}": value for key, value in one["test"].items()}
        metrics |= {f"onnx_{name}/bytes": one["bytes"], f"onnx_{name}/latency_p50_ms": one["latency"]["p50_ms"]}
    runs.log_metrics(session.tracking, run_id, metrics)
    runs.set_tags(session.tracking, run_id, {"darkroom.served": record["served"]})
    for reason in record["reasons"]:
        say(reason)


def _summary(record: dict[str, Any]) -> str:
    served = record["formats"][record["served"]]
    ratio = record["formats"]["int8"]["bytes"] / record["formats"]["fp32"]["bytes"]
    return (
        f"would serve {record['served']}: accuracy {served['test']['accuracy']:.4f}, {served['bytes']:,} bytes, "
        f"{served['latency']['p50_ms']:.2f} ms an image; int8 has {ratio:.2f} of fp32's bytes"
    )


def up_to_exported(session: Session) -> tuple[Prepared, Exported]:
    prepared, evaluated = up_to_evaluated(session)
    return prepared, quantize_model(session, prepared, evaluated)


@flow(name="quantize")
def quantize(overrides: list[str] | None = None, project: str | None = None) -> dict[str, Any]:
    """Exports alone; what comes before is brought up to date first. Returns the export's record."""
    return up_to_exported(open_session(project, overrides))[1].record
