"""An int8 file made once more in a way that is known by its name, where a search chose another."""

import tempfile
from pathlib import Path

from components.data.packed.calibration_images import calibration_images
from components.data.packed.loaders import PackedSplit
from components.evaluation.decision_rule import fit_decision_rule
from components.evaluation.served_predictions import predict_packed
from components.evaluation.settings import PredictSettings
from components.export.onnx_export import write_decision_rule
from components.export.quantization import Quantizer, Recipe
from components.export.quantization_search import recipe_named
from components.serving.onnx_classifier import OnnxClassifier


def repeat_int8(way: str, fp32: Path, target: Path, *, train: PackedSplit, val: PackedSplit, images: int) -> bool:
    """Whether `target` was written: as `export_model` would have, had it chosen this way.

    Not so for what was fine-tuned first: its weights are no longer those of the fp32 file. `images` calibrate.
    """
    calibration = calibration_images(train, images)
    card = OnnxClassifier(fp32, provider="cpu").card
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-") as scratch,
        Quantizer(fp32, calibration=calibration, card=card) as quantizer,
    ):

        def distorted(first: Recipe) -> list[tuple[str, ...]]:
            quantizer.write(first, Path(scratch) / "first.onnx")
            return quantizer.most_distorted(Path(scratch) / "first.onnx")

        recipe = recipe_named(way, distorted)
        if recipe is None:
            return False
        quantizer.write(recipe, target)
    rule = card.decision_rule
    asked = PredictSettings(coverage=rule.coverage, ood_keep=rule.ood_keep)
    on_val = predict_packed(OnnxClassifier(target, provider=card.provider), val)
    write_decision_rule(target, fit_decision_rule(on_val, asked))
    return True
