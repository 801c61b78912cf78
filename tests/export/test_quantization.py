"""int8 and fp16: smaller, close to the original, the same each time, calibrated on what they are given."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_model import Exported
from torchvision.models import VisionTransformer

from components.data.packed.calibration_images import CalibrationImages, calibration_sample
from components.export.onnx_export import export_onnx
from components.export.onnx_normalization import as_one_operator
from components.export.parity import agreement
from components.export.quantization import DYNAMIC, DYNAMIC_REDUCED, S8S8, U8S8, U8S8_REDUCED, Quantizer, Recipe
from components.export.quiet_exporters import quiet
from components.models.architectures import build
from components.models.classifier import ImageClassifier
from components.serving.onnx_classifier import OnnxClassifier

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
PERCENTILE = replace(U8S8, name="percentile", calibration="percentile")


def quantizer_of(exported: Exported, images_NHWC: np.ndarray = IMAGES) -> Quantizer:
    return Quantizer(exported.file, calibration=named(images_NHWC), card=exported.card)


def named(images_NHWC: np.ndarray) -> CalibrationImages:
    return CalibrationImages(images_NHWC, [{"path": f"{number}.png"} for number in range(len(images_NHWC))])


@pytest.fixture(scope="module")
def quantizer(exported: Exported) -> Iterator[Quantizer]:
    with quantizer_of(exported) as made:
        yield made


@pytest.fixture(scope="module")
def int8(quantizer: Quantizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantizer.write(U8S8, target)
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


def test_int8_has_the_same_card_but_for_its_format_and_its_calibration(exported: Exported, int8: Path) -> None:
    assert OnnxClassifier(int8).card == replace(exported.card, format="int8", calibration_digest=named(IMAGES).digest)


def test_int8_is_a_single_checked_file_that_computes_in_8_bits(int8: Path) -> None:
    assert [path.name for path in int8.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(int8)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_the_normalization_is_one_operator_in_float(exported: Exported, int8: Path) -> None:
    graph = onnx.load(int8).graph
    made_by = {output: node for node in graph.node for output in node.output}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 1
    assert all(made_by[name].op_type != "DequantizeLinear" for name in norms[0].input if name in made_by)
    assert not {"Sub", "Div"} & {node.op_type for node in graph.node}


def test_the_normalization_as_one_operator_says_the_same(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.file)
    as_one_operator(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "model.onnx")
    expected = OnnxClassifier(exported.file).logits(IMAGES)
    assert OnnxClassifier(tmp_path / "model.onnx").logits(IMAGES) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_model_without_a_normalization_stays_as_it_is(exported: Exported) -> None:
    model = onnx.load(exported.file)
    as_one_operator(model)
    once = model.SerializeToString(deterministic=True)
    as_one_operator(model)
    assert model.SerializeToString(deterministic=True) == once


def test_fp16_is_half_and_nearly_the_same(exported: Exported, quantizer: Quantizer, tmp_path: Path) -> None:
    quantizer.write_half(tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * exported.file.stat().st_size
    half, whole = OnnxClassifier(tmp_path / "half.onnx"), OnnxClassifier(exported.file)
    assert half.card == replace(exported.card, format="fp16")
    expected = whole.logits(IMAGES)
    assert half.logits(IMAGES) == pytest.approx(expected, abs=0.02 * float(np.ptp(expected)))


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
@pytest.mark.parametrize(("network", "expected"), [("transformer", True), ("lenet5", False)])
def test_a_transformer_is_recognized_by_its_attention(
    exported: Exported, tmp_path: Path, network: str, expected: bool
) -> None:
    model = ImageClassifier(exported.model.spec)
    sizes = {"hidden_dim": 16, "mlp_dim": 32, "num_classes": 3}
    model.net = (
        VisionTransformer(image_size=16, patch_size=4, num_layers=1, num_heads=2, **sizes)
        if network == "transformer"
        else build("lenet5", num_classes=3, image_size_px=16)
    )
    export_onnx(model, tmp_path / "model.onnx", card=exported.card)
    source = replace(exported, file=tmp_path / "model.onnx")
    with quantizer_of(source) as quantizer:
        assert quantizer.is_transformer is expected


def test_a_reduced_range_uses_seven_bits(quantizer: Quantizer, tmp_path: Path) -> None:
    quantizer.write(U8S8_REDUCED, tmp_path / "reduced.onnx")
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "reduced.onnx").graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) == 64


def test_the_most_distorted_results_can_stay_in_float(quantizer: Quantizer, int8: Path, tmp_path: Path) -> None:
    worst = quantizer.most_distorted(int8)[0]
    quantizer.write(replace(U8S8, excluded=worst), tmp_path / "without.onnx")

    def fed_in_8_bits(file: Path) -> bool:
        graph = onnx.load(file).graph
        made_by = {output: node.op_type for node in graph.node for output in node.output}
        fed = next(node.input[0] for node in graph.node if node.name == worst[0])
        return made_by[fed] == "DequantizeLinear"

    assert fed_in_8_bits(int8)
    assert not fed_in_8_bits(tmp_path / "without.onnx")


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
@pytest.mark.parametrize(
    "recipe", [U8S8, U8S8_REDUCED, S8S8, PERCENTILE, DYNAMIC, DYNAMIC_REDUCED], ids=lambda recipe: recipe.name
)
def test_every_recipe_gives_equal_bytes_for_equal_images(exported: Exported, tmp_path: Path, recipe: Recipe) -> None:
    for name in ("one", "two"):
        with quantizer_of(exported) as quantizer:
            quantizer.write(recipe, tmp_path / name / "model.onnx")
    assert (tmp_path / "one" / "model.onnx").read_bytes() == (tmp_path / "two" / "model.onnx").read_bytes()


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
def test_nothing_is_printed_and_logging_stays_as_it_was(
    exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    with quantizer_of(exported) as quantizer:
        for recipe in (U8S8, PERCENTILE, DYNAMIC):
            quantizer.write(recipe, tmp_path / f"{recipe.name}.onnx")
        quantizer.write_half(tmp_path / "half.onnx")
        quantizer.most_distorted(tmp_path / "u8s8.onnx")
    assert capfd.readouterr() == ("", "")
    assert (root.handlers, root.filters, root.level) == ([], [], level)


def test_errors_are_heard_and_raised(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def fail() -> None:
        with quiet():
            print("a step")
            logging.warning("a warning")
            logging.error("an error")
            raise ValueError("raised")

    with pytest.raises(ValueError, match="raised"):
        fail()
    assert capfd.readouterr() == ("", "an error\n")


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
def test_calibration_decides_the_ranges(exported: Exported, int8: Path, tmp_path: Path) -> None:
    with quantizer_of(exported, (IMAGES // 32).astype(np.uint8)) as quantizer:
        quantizer.write(U8S8, tmp_path / "m.onnx")
    assert not np.array_equal(OnnxClassifier(tmp_path / "m.onnx").logits(IMAGES), OnnxClassifier(int8).logits(IMAGES))


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
def test_a_file_names_the_images_that_fixed_its_ranges_and_no_others(exported: Exported, tmp_path: Path) -> None:
    images = named(np.concatenate([IMAGES, IMAGES // 2]))
    with quantizer_of(exported, images.pixels_NHWC) as quantizer:
        for recipe, used in ((U8S8, images), (PERCENTILE, images.spread(64)), (DYNAMIC, None)):
            quantizer.write(recipe, tmp_path / f"{recipe.name}.onnx")
            card = OnnxClassifier(tmp_path / f"{recipe.name}.onnx").card
            assert card.calibration_digest == (used.digest if used is not None else None)
    assert [len(images.names), len(images.spread(64).names)] == [128, 64]
    # The others change nothing.
    with quantizer_of(exported, images.spread(64).pixels_NHWC) as quantizer:
        quantizer.write(PERCENTILE, tmp_path / "again.onnx")
    again, first = (OnnxClassifier(tmp_path / name) for name in ("again.onnx", "percentile.onnx"))
    assert np.array_equal(again.logits(IMAGES), first.logits(IMAGES))


@pytest.mark.parametrize(("images", "asked", "expected"), [(10, 3, [0, 4, 9]), (3, 8, [0, 1, 2]), (1, 8, [0])])
def test_the_sample_is_spread_over_the_images(images: int, asked: int, expected: list[int]) -> None:
    assert calibration_sample(IMAGES[:images], asked).tolist() == expected
