"""Static int8: smaller, close to the original, the same each time, calibrated on what it is given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_model import Exported

from components.export.parity import agreement
from components.export.quantization import VARIANTS, Variant, calibration_sample, quantize
from components.serving.classifier import OnnxClassifier

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def int8(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantize(exported.file, target, variant=VARIANTS[0], calibration_NHWC=IMAGES, card=exported.card)
    return target


def test_int8_is_smaller(exported: Exported, int8: Path) -> None:
    assert int8.stat().st_size < 0.35 * exported.file.stat().st_size


def test_int8_answers_nearly_as_the_original_for_any_batch(exported: Exported, int8: Path) -> None:
    original, small = OnnxClassifier(exported.file), OnnxClassifier(int8)
    expected = original.logits(IMAGES)
    spread = float(np.ptp(expected))
    for batch in (1, 2, 7):
        assert small.logits(IMAGES[:batch]) == pytest.approx(expected[:batch], abs=0.15 * spread)
    assert agreement(small.logits(IMAGES).argmax(axis=1), expected.argmax(axis=1)) > 0.7


def test_int8_has_the_same_card_but_for_its_format(exported: Exported, int8: Path) -> None:
    assert OnnxClassifier(int8).card == replace(exported.card, format="int8")


def test_int8_is_a_single_checked_file_that_computes_in_8_bits(int8: Path) -> None:
    assert [path.name for path in int8.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(int8)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_the_normalization_stays_in_float(int8: Path) -> None:
    made_by = {output: node for node in onnx.load(int8).graph.node for output in node.output}
    for node in made_by.values():
        if node.op_type in ("Sub", "Div"):
            assert all(made_by[name].op_type != "DequantizeLinear" for name in node.input if name in made_by)


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_gives_equal_bytes_for_equal_images(exported: Exported, tmp_path: Path, variant: Variant) -> None:
    for name in ("one", "two"):
        target = tmp_path / name / "model.onnx"
        quantize(exported.file, target, variant=variant, calibration_NHWC=IMAGES, card=exported.card)
    assert (tmp_path / "one" / "model.onnx").read_bytes() == (tmp_path / "two" / "model.onnx").read_bytes()


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
def test_calibration_decides_the_ranges(exported: Exported, int8: Path, tmp_path: Path) -> None:
    dark = (IMAGES // 32).astype(np.uint8)
    quantize(exported.file, tmp_path / "m.onnx", variant=VARIANTS[0], calibration_NHWC=dark, card=exported.card)
    assert not np.array_equal(OnnxClassifier(tmp_path / "m.onnx").logits(IMAGES), OnnxClassifier(int8).logits(IMAGES))


@pytest.mark.parametrize(("images", "asked", "expected"), [(10, 3, [0, 4, 9]), (3, 8, [0, 1, 2]), (1, 8, [0])])
def test_the_sample_is_spread_over_the_images(images: int, asked: int, expected: list[int]) -> None:
    assert calibration_sample(IMAGES[:images], asked).tolist() == expected


def test_the_sample_never_repeats_an_image() -> None:
    places = calibration_sample(IMAGES, 50)
    assert len(places) == len(set(places.tolist())) == 50
