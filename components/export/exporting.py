"""From a trained model to the files that could be served: each written, tried, judged; one chosen."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.loading import PackedPart
from components.evaluation.answers import fit_answers
from components.evaluation.predictions import Predictions
from components.evaluation.served import predict_packed
from components.export.choice import Choice, Format, Measured, best_int8, broken, choose
from components.export.onnx_export import export_onnx, write_answers
from components.export.parity import Parity, agreement, torch_parity
from components.export.quantization import Quantizer, Recipe, calibration_sample
from components.export.search import first_recipes, refined
from components.export.settings import QuantizeSettings
from components.export.trials import FileDoesNotServe, Recorded, check_serving, time_file
from components.files import sha256_of_record, write_json
from components.models.classifier import ImageClassifier
from components.serving.classifier import ModelCard, OnnxClassifier
from components.serving.trial import Check, Speed

CALIBRATION = "calibration.json"
SERVING_CHECK = "serving_check.json"


@dataclass(frozen=True)
class Tried:
    """One file and all that was measured of it."""

    file: Path
    measured: Measured
    speed: Speed
    peak_mib: float | None


@dataclass(frozen=True)
class Exported:
    parity: Parity
    formats: dict[Format, Tried]
    """fp32, the best int8, and fp16 where it runs."""
    int8: dict[str, Tried]
    """Every int8 file that was tried, by the name of its recipe."""
    skipped: dict[str, str]
    """Forms that don't run here, and why."""
    choice: Choice
    calibration_digest: str
    checks: list[Check]
    """The serving check of the chosen file."""

    @property
    def served(self) -> Tried:
        return self.formats[self.choice.served]

    def as_record(self) -> dict[str, Any]:
        fp32 = self.formats["fp32"].measured
        return {
            "parity": asdict(self.parity),
            "formats": {name: _record(one, fp32) for name, one in self.formats.items()},
            "int8_variants": {name: _record(one, fp32) for name, one in self.int8.items()},
            "skipped": self.skipped,
            "served": self.choice.served,
            "reasons": self.choice.reasons,
            "calibration_digest": self.calibration_digest,
            "serving_check": all(check.passed for check in self.checks),
        }


def export_model(
    model: ImageClassifier,
    folder: Path,
    *,
    card: ModelCard,
    train: PackedPart,
    val: PackedPart,
    raw_images: list[bytes],
    settings: QuantizeSettings,
    say: Callable[[str], None],
) -> Exported:
    """Writes model_fp32.onnx, model_int8.onnx and, where it runs, model_fp16.onnx into the folder.

    `raw_images` are image files as they came, for parity and the serving check; `val` judges, and fits the rule for
    the answers of each file. Calibration takes images of the training part alone.
    """
    fp32_file = folder / "model_fp32.onnx"
    export_onnx(model, fp32_file, card=card)
    parity = torch_parity(model, OnnxClassifier(fp32_file, provider=settings.provider), raw_images)
    fp32 = _tried(fp32_file, "fp32", val, settings)
    formats: dict[Format, Tried] = {"fp32": fp32}
    skipped: dict[str, str] = {}
    calibration_NHWC, digest = _calibration(train, settings.calibration_images, folder / CALIBRATION)
    with Quantizer(fp32_file, calibration_NHWC=calibration_NHWC, calibration_digest=digest, card=card) as quantizer:
        fp16_file = folder / "model_fp16.onnx"
        quantizer.write_half(fp16_file)
        try:
            formats["fp16"] = _tried(fp16_file, "fp16", val, settings)
        except FileDoesNotServe as problem:
            fp16_file.unlink()
            skipped["fp16"] = str(problem)
            say(f"no fp16 here: {problem}")
        int8 = _search(quantizer, folder, fp32.measured, val, settings, say)
    best = best_int8(fp32.measured, [one.measured for one in int8.values()], settings)
    formats["int8"] = _kept(int8, best.recipe, folder / "model_int8.onnx")
    choice = choose({name: one.measured for name, one in formats.items()}, settings)
    checks = _serving_check(formats[choice.served].file, raw_images, settings, folder / SERVING_CHECK)
    return Exported(parity, formats, int8, skipped, choice, digest, checks)


def _search(
    quantizer: Quantizer,
    folder: Path,
    fp32: Measured,
    val: PackedPart,
    settings: QuantizeSettings,
    say: Callable[[str], None],
) -> dict[str, Tried]:
    """Every int8 file that was tried: the first recipes, and further ones until one keeps what it must keep."""
    found: dict[str, Tried] = {}

    def attempt(recipe: Recipe) -> bool:
        file = folder / f"model_{recipe.name}.onnx"
        quantizer.write(recipe, file)
        found[recipe.name] = _tried(file, recipe.name, val, settings)
        return not broken(fp32, found[recipe.name].measured, settings)

    recipes = first_recipes(is_transformer=quantizer.is_transformer)
    kept = [attempt(recipe) for recipe in recipes]
    if any(kept):
        return found
    best = max(recipes, key=lambda recipe: found[recipe.name].measured.accuracy)
    more = refined(best, lambda: quantizer.most_distorted(found[best.name].file))
    for _, recipe in zip(range(settings.search_trials), more, strict=False):
        say(f"int8 loses too much; trying {recipe.name}")
        if attempt(recipe):
            break
    return found


def _tried(file: Path, recipe: str, val: PackedPart, settings: QuantizeSettings) -> Tried:
    """Raises FileDoesNotServe where a clean process can't run the file; only then it is loaded here."""
    report = time_file(file, provider=settings.provider, latency_runs=settings.latency_runs)
    assert report.speed is not None
    on_val = predict_packed(OnnxClassifier(file, provider=settings.provider), val)
    write_answers(file, fit_answers(on_val))
    judged: Predictions = replace(on_val, answers=fit_answers(on_val))
    measured = Measured(
        recipe=recipe,
        size_bytes=file.stat().st_size,
        accuracy=float(judged.correct_N.mean()),
        answers=judged.predicted,
        p50_ms=report.speed.latency.p50_ms,
    )
    return Tried(file, measured, report.speed, report.peak_mib)


def _kept(int8: dict[str, Tried], best: str, target: Path) -> Tried:
    """The best int8 file under its own name; the others are removed."""
    for name, one in int8.items():
        if name == best:
            one.file.replace(target)
        else:
            one.file.unlink()
    return replace(int8[best], file=target)


def _calibration(train: PackedPart, count: int, record: Path) -> tuple[NDArray[np.uint8], str]:
    """Originals of the training part spread evenly over it, named and hashed in a file beside the models."""
    originals = np.flatnonzero(train.copy_N == 0)
    places = originals[calibration_sample(originals, count)]
    images = [{"path": train.path_N[place], "sha256": train.sha256_N[place]} for place in places]
    digest = sha256_of_record({"images": images})
    write_json(record, {"part": "train", "digest": digest, "images": images})
    return train.pixels_NHWC[places], digest


def _serving_check(file: Path, raw_images: list[bytes], settings: QuantizeSettings, record: Path) -> list[Check]:
    """The chosen file's answers as this process has them, asked again of one with nothing but what serving needs."""
    model = OnnxClassifier(file, provider=settings.provider)
    logits_NT = np.concatenate([model.logits(model.square(content)[None]) for content in raw_images])
    probability_NK = model.card.labels.probabilities(logits_NT, temperature=model.card.answers.temperature)
    checks = check_serving(file, Recorded(raw_images, probability_NK), provider=settings.provider)
    write_json(
        record,
        {
            "sha256": model.sha256,
            "passed": all(check.passed for check in checks),
            "checks": [json.loads(check.model_dump_json()) for check in checks],
        },
    )
    return checks


def _record(one: Tried, fp32: Measured) -> dict[str, Any]:
    return {
        "recipe": one.measured.recipe,
        "bytes": one.measured.size_bytes,
        "validation_accuracy": one.measured.accuracy,
        "agreement": agreement(one.measured.answers, fp32.answers),
        "latency": one.speed.latency.model_dump(),
        "images_per_second": one.speed.images_per_second,
        "best_batch": one.speed.best_batch,
        "peak_mib": one.peak_mib,
    }
