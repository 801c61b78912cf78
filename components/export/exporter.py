"""From a trained model to the files that could be served: each written, measured and scored; one chosen."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.data.packed.calibration_images import CalibrationImages, calibration_images
from components.data.packed.loaders import PackedSplit
from components.evaluation.decision_rule import fit_decision_rule
from components.evaluation.predictions import Predictions
from components.evaluation.served_predictions import predict_packed
from components.evaluation.settings import PredictSettings
from components.export.format_choice import Choice, Format, Measurements, best_int8, broken, choose, most_promising
from components.export.model_timing import FileDoesNotServe, time_file
from components.export.onnx_export import export_onnx, write_decision_rule
from components.export.parity import agreement, torch_parity
from components.export.quantization import Quantizer, Recipe
from components.export.quantization_search import first_recipes, refined
from components.export.settings import QuantizeSettings, after_epochs
from components.models.classifier import ImageClassifier
from components.records.export import ExportedFile, ExportRecord, Latency, MeasuredFile, Parity, ScoresOnTest
from components.serving.onnx_classifier import ModelCard, OnnxClassifier
from components.serving.timing_probe import Speed
from components.shared.errors import TrainingDiverged
from components.shared.files import write_json
from components.shared.processor import Processor, this_processor
from components.training.settings import FakeQuantization

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"

FineTune = Callable[[FakeQuantization], ImageClassifier]
"""Fine-tunes the model that is exported, with this rounding simulated, as long as `quantize.qat` says."""


@dataclass(frozen=True)
class ExportCandidate:
    """One file and all that was measured of it."""

    file: Path
    measured: Measurements
    speed: Speed
    peak_mib: float | None
    calibration: CalibrationImages | None = None
    """The images that fixed its ranges; None where none did."""


@dataclass(frozen=True)
class ExportedFiles:
    parities: dict[Format, Parity]
    """Of each file to the network in torch, from the raw image files on."""
    formats: dict[Format, ExportCandidate]
    """fp32, the best int8, and fp16 where it runs."""
    int8: dict[str, ExportCandidate]
    """Every int8 file that was tried, by the name of its recipe."""
    skipped: dict[str, str]
    """Forms that don't run here, and why."""
    choice: Choice
    processor: Processor
    """On which all of it was measured."""

    @property
    def served(self) -> ExportCandidate:
        return self.formats[self.choice.served]

    def as_record(self, tests: Mapping[Format, ScoresOnTest]) -> ExportRecord:
        """The record of the export; `tests` are the scores of each file on the test split."""
        fp32 = self.formats["fp32"].measured
        return ExportRecord(
            formats={
                name: ExportedFile(_measured_file(one, fp32), self.parities[name], tests[name])
                for name, one in self.formats.items()
            },
            int8_variants={name: _measured_file(one, fp32) for name, one in self.int8.items()},
            skipped={str(name): reason for name, reason in self.skipped.items()},
            served=self.choice.served,
            reasons=self.choice.reasons,
            calibration_digest=_named(self.formats["int8"].calibration)["digest"],
            processor=self.processor,
        )


@dataclass(frozen=True)
class Images:
    """What an export looks at."""

    train: PackedSplit
    """Alone calibrates int8."""
    val: PackedSplit
    """Scores each file, and fits the rule for its answers."""
    raw: list[bytes]
    """Image files as they came, for parity."""


def export_model(
    model: ImageClassifier,
    folder: Path,
    *,
    card: ModelCard,
    images: Images,
    settings: QuantizeSettings,
    predict: PredictSettings,
    fine_tune: FineTune | None = None,
) -> ExportedFiles:
    """Writes model_fp32.onnx, model_int8.onnx and, where it runs, model_fp16.onnx into the folder.

    Where no int8 file keeps what it must, `learn` may make one that does; all are measured against the fp32 file of the
    model that was given.
    """
    calibration = calibration_images(images.train, settings.calibration_images)
    exporter = _Exporter(folder, card, calibration, images.val, settings, predict)
    fp32 = exporter.fp32(model)
    formats: dict[Format, ExportCandidate] = {"fp32": fp32}
    skipped: dict[str, str] = {}
    with exporter.quantizer(fp32.file) as quantizer:
        try:
            formats["fp16"] = exporter.fp16(quantizer)
        except FileDoesNotServe as problem:
            skipped["fp16"] = str(problem)
            logger.info(f"no fp16 here: {problem}")
        recipes = first_recipes(is_transformer=quantizer.is_transformer)
        int8 = exporter.search(quantizer, recipes, fp32.measured)
    if fine_tune is not None and _lacks(fp32.measured, int8, settings):
        exact = [recipe for recipe in recipes if not recipe.saturates(this_processor())]
        promising = most_promising([int8[recipe.name].measured for recipe in exact])
        int8 |= exporter.after_qat(next(recipe for recipe in exact if recipe.name == promising.recipe), fine_tune)
    best = best_int8(fp32.measured, [one.measured for one in int8.values()], settings)
    formats["int8"] = _kept(int8, best.recipe, folder / "model_int8.onnx")
    write_json(folder / CALIBRATION, {"split": "train"} | _named(formats["int8"].calibration))
    choice = choose({name: one.measured for name, one in formats.items()}, settings)
    parities = {
        name: torch_parity(model, OnnxClassifier(one.file, provider=settings.provider), images.raw)
        for name, one in formats.items()
    }
    return ExportedFiles(parities, formats, int8, skipped, choice, this_processor())


@dataclass(frozen=True)
class _Exporter:
    """Writes the files of one model and measures each as it will serve; raises FileDoesNotServe where one can't."""

    folder: Path
    card: ModelCard
    calibration: CalibrationImages
    val: PackedSplit
    settings: QuantizeSettings
    predict: PredictSettings

    def fp32(self, model: ImageClassifier) -> ExportCandidate:
        file = self.folder / "model_fp32.onnx"
        export_onnx(model, file, card=self.card)
        return self._candidate(file, "fp32")

    def fp16(self, quantizer: Quantizer) -> ExportCandidate:
        file = self.folder / "model_fp16.onnx"
        quantizer.write_half(file)
        try:
            return self._candidate(file, "fp16")
        except FileDoesNotServe:
            file.unlink()
            raise

    def search(self, quantizer: Quantizer, recipes: Sequence[Recipe], fp32: Measurements) -> dict[str, ExportCandidate]:
        """Every int8 file that was tried: the first recipes, and further ones until one keeps what it must keep."""
        found: dict[str, ExportCandidate] = {}

        def attempt(recipe: Recipe) -> bool:
            file = self._file(recipe.name)
            quantizer.write(recipe, file)
            found[recipe.name] = replace(
                self._candidate(file, recipe.name), calibration=quantizer.calibration_of(recipe)
            )
            return not broken(fp32, found[recipe.name].measured, self.settings)

        kept = [attempt(recipe) for recipe in recipes]
        if any(kept):
            return found
        static = [recipe for recipe in recipes if recipe.activations != "dynamic"]
        best = max(static, key=lambda recipe: found[recipe.name].measured.accuracy)
        more = refined(best, lambda: quantizer.most_distorted(found[best.name].file))
        for _, recipe in zip(range(self.settings.search_trials), more, strict=False):
            logger.info(f"int8 loses too much; trying {recipe.name}")
            if attempt(recipe):
                break
        return found

    def after_qat(self, recipe: Recipe, fine_tune: FineTune) -> dict[str, ExportCandidate]:
        """The file of this recipe after quantization-aware fine-tuning; none where that diverged."""
        epochs = self.settings.qat.epochs
        logger.info(f"every int8 loses too much; trying {recipe.name}{after_epochs(epochs)}")
        try:
            model = fine_tune(rounding_of(recipe, self.settings))
        except TrainingDiverged as problem:
            logger.info(f"int8 stays as it is: {problem}")
            return {}
        name = f"{recipe.name}_aware"
        card = replace(self.card, qat_epochs=epochs)
        with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
            fp32_file = Path(scratch) / "model_fp32.onnx"
            export_onnx(model, fp32_file, card=card)
            with replace(self, card=card).quantizer(fp32_file) as quantizer:
                quantizer.write(recipe, self._file(name))
                calibration = quantizer.calibration_of(recipe)
        candidate = self._candidate(self._file(name), name, qat_epochs=epochs)
        return {name: replace(candidate, calibration=calibration)}

    def quantizer(self, fp32_file: Path) -> Quantizer:
        return Quantizer(fp32_file, calibration=self.calibration, card=self.card)

    def _file(self, recipe: str) -> Path:
        return self.folder / f"model_{recipe}.onnx"

    def _candidate(self, file: Path, recipe: str, *, qat_epochs: int = 0) -> ExportCandidate:
        """Only what a clean process could run is loaded here."""
        settings = self.settings
        report = time_file(file, provider=settings.provider, latency_runs=settings.latency_runs)
        on_val = predict_packed(OnnxClassifier(file, provider=settings.provider), self.val)
        rule = fit_decision_rule(on_val, self.predict)
        write_decision_rule(file, rule)
        scored: Predictions = replace(on_val, rule=rule)
        measured = Measurements(
            recipe=recipe,
            size_bytes=file.stat().st_size,
            accuracy=float(scored.correct_N.mean()),
            answers=scored.predicted,
            p50_ms=report.speed.latency.p50_ms,
            qat_epochs=qat_epochs,
        )
        return ExportCandidate(file, measured, report.speed, report.peak_mib)


def _named(calibration: CalibrationImages | None) -> dict[str, Any]:
    """Digest and names; none where nothing was calibrated."""
    if calibration is None:
        return {"digest": None, "images": []}
    return {"digest": calibration.digest, "images": calibration.names}


def _lacks(fp32: Measurements, int8: dict[str, ExportCandidate], settings: QuantizeSettings) -> bool:
    """Whether an int8 file is wanted, and none keeps what it must."""
    wanted = settings.qat.epochs > 0 and settings.serve in ("auto", "int8")
    return wanted and all(broken(fp32, one.measured, settings) for one in int8.values())


def rounding_of(recipe: Recipe, settings: QuantizeSettings) -> FakeQuantization:
    """What a file of this recipe rounds, to be simulated in training."""
    return FakeQuantization(
        activations=recipe.activations,
        weight_bits=7 if recipe.reduce_range else 8,
        calibration_images=settings.calibration_images,
    )


def _kept(int8: dict[str, ExportCandidate], best: str, target: Path) -> ExportCandidate:
    """The best int8 file under its own name; the others are removed."""
    for name, one in int8.items():
        if name == best:
            one.file.replace(target)
        else:
            one.file.unlink()
    return replace(int8[best], file=target)


def _measured_file(one: ExportCandidate, fp32: Measurements) -> MeasuredFile:
    latency = one.speed.latency
    return MeasuredFile(
        recipe=one.measured.recipe,
        qat_epochs=one.measured.qat_epochs,
        size_bytes=one.measured.size_bytes,
        validation_accuracy=one.measured.accuracy,
        agreement=agreement(one.measured.answers, fp32.answers),
        latency=Latency(latency.p50_ms, latency.p95_ms, latency.p99_ms),
        images_per_second=one.speed.images_per_second,
        best_batch=one.speed.best_batch,
        peak_mib=one.peak_mib,
    )
