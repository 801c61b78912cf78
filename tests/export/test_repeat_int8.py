"""An int8 file that a search didn't choose is made again by the name of its way, to the same bytes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exported_model import Exported

from components.data.packed.calibration_images import calibration_images
from components.data.packed.loaders import PackedSplit
from components.evaluation.decision_rule import fit_decision_rule
from components.evaluation.served_predictions import predict_packed
from components.evaluation.settings import PredictSettings
from components.export.onnx_export import write_decision_rule
from components.export.quantization import S8S8, U8S8, U8S8_REDUCED, Quantizer
from components.export.quantization_search import recipe_named, refined
from components.export.repeat_int8 import repeat_int8
from components.serving.onnx_classifier import OnnxClassifier

pytestmark = pytest.mark.parametrize("exported", ["plain"], indirect=True)
GROUPS = [(f"node {number}",) for number in range(4)]


@pytest.fixture(scope="module")
def split(exported: Exported) -> PackedSplit:
    return PackedSplit(
        pixels_NHWC=np.random.default_rng(4).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8),
        task=exported.card.labels,
        target=np.arange(24) % 3,
        weight_N=np.ones(24, np.float32),
        path_N=[f"{number}.png" for number in range(24)],
        sha256_N=[f"{number:064x}" for number in range(24)],
        copy_N=np.zeros(24, np.int64),
    )


@pytest.mark.parametrize("way", [S8S8, replace(U8S8_REDUCED, name="u8s8_reduced_percentile", calibration="percentile")])
def test_the_bytes_are_those_of_the_first_time(exported: Exported, split: PackedSplit, tmp_path: Path, way) -> None:  # type: ignore[no-untyped-def]
    fp32, first, again = (tmp_path / f"{name}.onnx" for name in ("fp32", "first", "again"))
    # What sets were asked for stands in the fp32 file.
    asked = PredictSettings(coverage=0.9, ood_keep=None)
    shutil.copyfile(exported.file, fp32)
    write_decision_rule(fp32, fit_decision_rule(predict_packed(OnnxClassifier(fp32), split), asked))
    images = calibration_images(split, 16)
    with Quantizer(fp32, calibration=images, card=OnnxClassifier(fp32).card) as quantizer:
        quantizer.write(way, first)
    write_decision_rule(first, fit_decision_rule(predict_packed(OnnxClassifier(first), split), asked))
    assert repeat_int8(way.name, fp32, again, train=split, val=split, images=16)
    assert again.read_bytes() == first.read_bytes()


def test_what_was_fine_tuned_first_is_not_made_from_other_weights(
    exported: Exported, split: PackedSplit, tmp_path: Path
) -> None:
    assert not repeat_int8("u8s8_reduced_aware", exported.file, tmp_path / "m.onnx", train=split, val=split, images=16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("base", [U8S8, U8S8_REDUCED, S8S8], ids=lambda recipe: recipe.name)
def test_every_way_of_a_search_is_found_by_its_name(exported: Exported, base) -> None:  # type: ignore[no-untyped-def]
    asked = []
    for recipe in (base, *refined(base, lambda: GROUPS)):
        found = recipe_named(recipe.name, lambda first: asked.append(first) or GROUPS)
        assert found == recipe
    assert set(asked) == {base}
