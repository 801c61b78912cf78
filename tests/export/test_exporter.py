"""From a trained model to files, measured and scored; one is chosen."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_model import Exported
from logged import logged

from components.data.packed.loaders import PackedSplit
from components.evaluation.decision_rule import fit_decision_rule
from components.evaluation.served_predictions import predict_packed
from components.evaluation.settings import PredictSettings
from components.export.exporter import CALIBRATION, FineTune, Images, export_model
from components.export.exporter import ExportedFiles as Result
from components.export.format_choice import Format
from components.export.quantization_search import first_recipes, refined
from components.export.settings import QuantizeSettings
from components.models.classifier import ImageClassifier
from components.records.export import ExportRecord, ScoresOnTest
from components.serving.onnx_classifier import OnnxClassifier
from components.serving.timing_probe import ProbeReport, Speed, Timing
from components.shared.errors import TrainingDiverged
from components.shared.files import sha256_of_file
from components.shared.processor import this_processor
from components.training.settings import FakeQuantization, QatSettings

pytestmark = pytest.mark.parametrize("exported", ["plain"], indirect=True)
SETTINGS = QuantizeSettings(
    serve="int8",
    search_trials=2,
    qat=QatSettings(epochs=2, learning_rate=0.001),
    provider="cpu",
    calibration_images=16,
    max_accuracy_drop=1.0,
    min_agreement=0.0,
    max_logit_difference=0.001,
    parity_images=8,
    latency_runs=10,
)


@pytest.fixture(scope="module")
def split(exported: Exported) -> PackedSplit:
    """Images whose classes are the model's predictions."""
    pixels = np.random.default_rng(3).integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)
    predicted = OnnxClassifier(exported.file).logits(pixels).argmax(axis=1)
    return PackedSplit(
        pixels_NHWC=pixels,
        task=exported.card.labels,
        target=predicted.astype(np.int64),
        weight_N=np.ones(48, np.float32),
        path_N=[f"{number}.png" for number in range(48)],
        sha256_N=[f"{number:064x}" for number in range(48)],
        copy_N=np.arange(48) % 2,
    )


@pytest.fixture(scope="module")
def result(
    exported: Exported, split: PackedSplit, image_files: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Result:
    return exported_into(tmp_path_factory.mktemp("export"), exported, split, image_files, SETTINGS)


@pytest.fixture(autouse=True)
def timed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One export of this module, `result`, times its files in processes of their own; the others take all for alike."""
    speed = Speed(latency=Timing(p50_ms=1.0, p95_ms=1.0, p99_ms=1.0), images_per_second=1000.0, best_batch=1)

    def alike(file: Path, **_: Any) -> ProbeReport:
        return ProbeReport(sha256=sha256_of_file(file), speed=speed, peak_mib=None)

    monkeypatch.setattr("components.export.exporter.time_file", alike)


def exported_into(
    folder: Path,
    exported: Exported,
    split: PackedSplit,
    image_files: list[bytes],
    settings: QuantizeSettings,
    *,
    learn: FineTune | None = None,
) -> Result:
    return export_model(
        exported.model,
        folder,
        card=exported.card,
        images=Images(train=split, val=split, raw=image_files),
        settings=settings,
        predict=PredictSettings(),
        fine_tune=learn,
    )


def record_of(result: Result) -> ExportRecord:
    """With tests of nothing, for those are the shell's."""
    return result.as_record({name: ScoresOnTest("0" * 64, {}, {}) for name in result.formats})


def test_a_model_becomes_files_that_were_tried(result: Result, split: PackedSplit) -> None:
    folder = result.served.file.parent
    assert sorted(file.name for file in folder.glob("*.onnx")) == [
        f"model_{name}.onnx" for name in ("fp16", "fp32", "int8")
    ]
    assert result.choice.served == "int8"
    assert predict_packed(OnnxClassifier(folder / "model_fp32.onnx"), split).correct_N.all()
    record = record_of(result)
    assert set(record.formats) == {"fp32", "fp16", "int8"}
    assert set(record.int8_variants) == {"u8s8", "u8s8_reduced", "s8s8"}
    assert record.formats["int8"].measured.size_bytes < 0.35 * record.formats["fp32"].measured.size_bytes
    assert record.formats["fp32"].measured.agreement == 1
    assert record.processor == this_processor()
    differences = [record.formats[name].parity.max_logit_difference for name in ("fp32", "fp16", "int8")]
    assert 0 < differences[0] < differences[1] < differences[2]


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
def test_each_file_holds_the_rule_that_its_own_answers_give(result: Result, split: PackedSplit, name: Format) -> None:
    model = OnnxClassifier(result.formats[name].file)
    rule = model.card.decision_rule
    assert rule == fit_decision_rule(predict_packed(model, split), PredictSettings())
    assert rule.coverage == 0.95
    assert np.shape(rule.set_thresholds) == (1, len(model.card.classes))


def test_calibration_names_and_hashes_originals_of_the_training_split(result: Result, split: PackedSplit) -> None:
    calibration = json.loads((result.served.file.parent / CALIBRATION).read_text())
    originals = {path for path, copy in zip(split.path_N, split.copy_N, strict=True) if copy == 0}
    assert len(calibration["images"]) == SETTINGS.calibration_images
    assert {image["path"] for image in calibration["images"]} <= originals
    assert OnnxClassifier(result.served.file).card.calibration_digest == calibration["digest"]


def test_more_ways_are_tried_where_the_first_lose_too_much(
    exported: Exported,
    split: PackedSplit,
    image_files: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("components.export.quantization._HISTOGRAM_IMAGES", 4)
    monkeypatch.setattr("components.export.exporter.broken", lambda *_: ["loses too much, whatever it is"])
    with logged() as messages:
        result = exported_into(tmp_path, exported, split, image_files, SETTINGS)
    assert len([message for message in messages if message.startswith("int8 loses too much; trying")]) == 2
    assert len(result.int8) == 5
    calibration, best = json.loads((tmp_path / CALIBRATION).read_text()), result.formats["int8"]
    assert OnnxClassifier(best.file).card.calibration_digest == calibration["digest"]
    assert len(calibration["images"]) == (4 if "percentile" in best.measured.recipe else SETTINGS.calibration_images)


STRICT = SETTINGS.model_copy(update={"search_trials": 0, "max_accuracy_drop": 0.25})


def with_outliers(model: ImageClassifier, size: float) -> ImageClassifier:
    """The same function in float: the huge weights are for a channel that never has a value."""
    changed = copy.deepcopy(model)
    norm, convolution = (changed.net.get_submodule(f"features.block1.{place}") for place in (1, 3))
    with torch.no_grad():
        norm.weight[0], norm.bias[0] = 0.0, -1.0
        convolution.weight[:, 0] = size
    return changed


@pytest.fixture(scope="module")
def spoiled(exported: Exported, split: PackedSplit) -> tuple[Exported, PackedSplit]:
    """A model of which int8 keeps nothing, and images whose classes are its predictions in float."""
    model = with_outliers(exported.model, 1000.0)
    images = torch.from_numpy(split.pixels_NHWC)
    with torch.no_grad():
        # Untrained, it would predict the same class for all.
        model.net.get_submodule("classifier").bias -= model(images).mean(dim=0)
        predicted = model(images).argmax(dim=1).numpy()
    return replace(exported, model=model), replace(split, target=predicted)


def test_int8_that_loses_too_much_is_tried_again_after_fine_tuning(
    spoiled: tuple[Exported, PackedSplit], image_files: list[bytes], tmp_path: Path
) -> None:
    asked: list[FakeQuantization] = []

    def learn(rounding: FakeQuantization) -> ImageClassifier:
        asked.append(rounding)
        return with_outliers(spoiled[0].model, 0.0)

    result = exported_into(tmp_path, *spoiled, image_files, STRICT, learn=learn)
    assert len(asked) == 1
    assert asked[0].weight_bits == (7 if "reduced" in result.formats["int8"].measured.recipe else 8)
    record = record_of(result)
    assert record.served == "int8"
    assert "after 2 epochs of quantization-aware fine-tuning" in record.reasons[0]
    assert record.formats["int8"].measured.qat_epochs == 2
    assert [one.qat_epochs for one in record.int8_variants.values()] == [0, 0, 0, 2]
    assert OnnxClassifier(result.served.file).card.qat_epochs == 2
    fp32 = OnnxClassifier(tmp_path / "model_fp32.onnx")
    assert fp32.card.qat_epochs == 0


def diverge(_: FakeQuantization) -> ImageClassifier:
    raise TrainingDiverged("loss is nan")


@pytest.mark.parametrize("fails", ["learns nothing", "diverges"])
def test_fp32_is_served_where_fine_tuning_fails_too(
    spoiled: tuple[Exported, PackedSplit], image_files: list[bytes], tmp_path: Path, fails: str
) -> None:
    learn = diverge if fails == "diverges" else lambda _: spoiled[0].model
    result = exported_into(tmp_path, *spoiled, image_files, STRICT, learn=learn)
    assert result.choice.served == "fp32"
    assert not list(tmp_path.glob("*aware*"))


@pytest.mark.parametrize(
    "changed",
    [{"max_accuracy_drop": 1.0}, {"serve": "fp32"}, {"qat": QatSettings(epochs=0, learning_rate=0.1)}],
    ids=["static keeps enough", "int8 isn't wanted", "no epochs"],
)
def test_nothing_is_fine_tuned_where_it_gains_nothing(
    spoiled: tuple[Exported, PackedSplit], image_files: list[bytes], tmp_path: Path, changed: dict[str, Any]
) -> None:
    result = exported_into(tmp_path, *spoiled, image_files, STRICT.model_copy(update=changed), learn=diverge)
    assert len(result.int8) == 3


def test_transformers_are_quantized_dynamically_first(exported: Exported) -> None:
    names = [recipe.name for recipe in first_recipes(is_transformer=True)]
    assert names == ["dynamic", "dynamic_reduced", "u8s8", "u8s8_reduced", "s8s8"]


def test_refinements_leave_ever_more_nodes_in_float(exported: Exported) -> None:
    groups = [(f"node {number}", f"node {number + 1}") for number in range(6)]
    recipes = list(refined(first_recipes(is_transformer=False)[0], lambda: groups))
    assert [recipe.calibration for recipe in recipes] == ["percentile", "minmax", "minmax", "minmax"]
    assert [len(recipe.excluded) for recipe in recipes] == [0, 2, 3, 5]
    assert recipes[2].excluded == ("node 0", "node 1", "node 2")
