"""From a trained model to files, tried and judged; one is chosen, and it is checked as it would serve."""

import json
from pathlib import Path

import numpy as np
import pytest
from exported_model import Exported

from components.data.loading import PackedPart
from components.evaluation.served import predict_packed
from components.export.exporting import CALIBRATION, SERVING_CHECK, export_model
from components.export.exporting import Exported as Result
from components.export.search import first_recipes, refined
from components.export.settings import QuantizeSettings
from components.serving.classifier import OnnxClassifier

pytestmark = pytest.mark.parametrize("exported", ["plain"], indirect=True)
SETTINGS = QuantizeSettings(
    serve="int8",
    search_trials=2,
    provider="cpu",
    calibration_images=16,
    max_accuracy_loss=1.0,
    min_agreement=0.0,
    max_logit_difference=0.001,
    parity_images=8,
    latency_runs=10,
)


@pytest.fixture(scope="module")
def part(exported: Exported) -> PackedPart:
    """Images whose classes are what the model says of them."""
    pixels = np.random.default_rng(3).integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)
    said = OnnxClassifier(exported.file).logits(pixels).argmax(axis=1)
    return PackedPart(
        pixels_NHWC=pixels,
        space=exported.card.labels,
        target=said.astype(np.int64),
        weight_N=np.ones(48, np.float32),
        path_N=[f"{number}.png" for number in range(48)],
        sha256_N=[f"{number:064x}" for number in range(48)],
        copy_N=np.arange(48) % 2,
    )


@pytest.fixture(scope="module")
def result(
    exported: Exported, part: PackedPart, image_files: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Result:
    return exported_into(tmp_path_factory.mktemp("export"), exported, part, image_files, SETTINGS, said=[])


def exported_into(
    folder: Path,
    exported: Exported,
    part: PackedPart,
    image_files: list[bytes],
    settings: QuantizeSettings,
    *,
    said: list[str],
) -> Result:
    return export_model(
        exported.model,
        folder,
        card=exported.card,
        train=part,
        val=part,
        raw_images=image_files,
        settings=settings,
        say=said.append,
    )


def test_a_model_becomes_files_that_were_tried(result: Result, part: PackedPart) -> None:
    folder = result.served.file.parent
    assert sorted(file.name for file in folder.glob("*.onnx")) == [
        f"model_{name}.onnx" for name in ("fp16", "fp32", "int8")
    ]
    assert result.choice.served == "int8"
    assert predict_packed(OnnxClassifier(folder / "model_fp32.onnx"), part).correct_N.all()
    record = json.loads(json.dumps(result.as_record()))
    assert set(record["formats"]) == {"fp32", "fp16", "int8"}
    assert set(record["int8_variants"]) == {"u8s8", "u8s8_reduced", "s8s8"}
    assert record["formats"]["int8"]["bytes"] < 0.35 * record["formats"]["fp32"]["bytes"]
    assert record["formats"]["fp32"]["agreement"] == 1


def test_the_served_file_was_checked_as_it_would_serve(result: Result) -> None:
    found = json.loads((result.served.file.parent / SERVING_CHECK).read_text())
    assert found["passed"]
    assert found["sha256"] == OnnxClassifier(result.served.file).sha256


def test_calibration_names_and_hashes_originals_of_the_training_part(result: Result, part: PackedPart) -> None:
    calibration = json.loads((result.served.file.parent / CALIBRATION).read_text())
    originals = {path for path, copy in zip(part.path_N, part.copy_N, strict=True) if copy == 0}
    assert len(calibration["images"]) == SETTINGS.calibration_images
    assert {image["path"] for image in calibration["images"]} <= originals
    assert OnnxClassifier(result.served.file).card.calibration_digest == calibration["digest"]


def test_more_ways_are_tried_where_the_first_lose_too_much(
    exported: Exported, part: PackedPart, image_files: list[bytes], tmp_path: Path
) -> None:
    said: list[str] = []
    impossible = SETTINGS.model_copy(update={"min_agreement": 1.0, "max_accuracy_loss": 0.0})
    result = exported_into(tmp_path, exported, part, image_files, impossible, said=said)
    if result.choice.served == "fp32":
        assert len([sentence for sentence in said if sentence.startswith("int8 loses too much")]) == 2
        assert len(result.int8) == 5
    else:
        assert (result.formats["int8"].measured.answers == result.formats["fp32"].measured.answers).all()


def test_transformers_are_quantized_dynamically_first(exported: Exported) -> None:
    assert [recipe.name for recipe in first_recipes(is_transformer=True)] == ["dynamic", "u8s8"]


def test_refinements_leave_ever_more_nodes_in_float(exported: Exported) -> None:
    groups = [(f"node {number}", f"node {number + 1}") for number in range(6)]
    recipes = list(refined(first_recipes(is_transformer=False)[0], lambda: groups))
    assert [recipe.calibration for recipe in recipes] == ["percentile", "minmax", "minmax", "minmax"]
    assert [len(recipe.excluded) for recipe in recipes] == [0, 2, 3, 5]
    assert recipes[2].excluded == ("node 0", "node 1", "node 2")
