"""A model file is checked before it is trusted."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from components.data.images.decoding import UndecodableImage
from components.data.images.preprocessing import PreprocessSettings
from components.export.onnx_export import write_decision_rule
from components.serving.onnx_classifier import ModelCard, OnnxClassifier
from components.serving.prediction_records import PredictionOptions, prediction_records
from components.shared.errors import ServiceError
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule


def test_a_card_comes_back_from_the_metadata() -> None:
    preprocess = PreprocessSettings(image_size_px=24, resize="pad", max_megapixels=50)
    labels = SingleLabel.of([["Ä"], ['b "c"'], ["d\ne"]])
    rule = DecisionRule(coverage=0.95, set_thresholds=[[0.1, 0.0, 1 / 3]], ood_threshold=-0.1, ood_keep=0.9)
    card = ModelCard("resnet18", labels, preprocess, "int8", "d" * 32, "r" * 32, rule)
    assert ModelCard.from_metadata(card.to_metadata(), "model.onnx") == card


@pytest.mark.parametrize(
    "metadata", [{}, {"darkroom": ""}, {"darkroom": "{}"}, {"darkroom": "[1]"}, {"darkroom": '"text"'}]
)
def test_a_model_without_a_card_is_foreign(metadata: dict[str, str]) -> None:
    with pytest.raises(ServiceError, match=r"foreign\.onnx is no model of Darkroom"):
        ModelCard.from_metadata(metadata, "foreign.onnx")


def test_a_file_answers_by_the_prediction_sets_that_it_holds(onnx_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    shutil.copyfile(onnx_file, file)
    rule = DecisionRule(coverage=0.95, set_thresholds=[[0.0, 0.0, 1.1]], ood_threshold=1e9, ood_keep=0.9)
    write_decision_rule(file, rule)
    model = OnnxClassifier(file)
    assert model.card.decision_rule == rule
    (record,) = prediction_records(
        model.logits(np.zeros((1, 16, 16, 3), np.uint8)), model.card, PredictionOptions(top_k=1)
    )
    assert sorted(record["prediction_set"].split("|")) == ["cat", "dog, big"]
    assert (record["sure"], record["out_of_distribution"]) == (False, False)
    write_decision_rule(file, rule.model_copy(update={"set_thresholds": [[0.1, 0.2]]}))
    with pytest.raises(ServiceError, match="has 2 thresholds of prediction sets, should have 3; export it again"):
        OnnxClassifier(file)


def test_a_foreign_model_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(
        ServiceError, match=r"foreign\.onnx is no model of Darkroom: its metadata has no model card; give the"
    ):
        OnnxClassifier(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_model_is_refused_in_one_sentence(onnx_file: Path, tmp_path: Path, kept: float) -> None:
    content = onnx_file.read_bytes()
    file = tmp_path / "cut.onnx"
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(ServiceError, match=r"cut\.onnx") as refused:
        OnnxClassifier(file)
    assert "\n" not in str(refused.value)


def test_text_in_place_of_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ServiceError, match=r"text\.onnx can't be loaded as ONNX"):
        OnnxClassifier(tmp_path / "text.onnx")


def test_a_missing_model_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"does not exist; give an existing \.onnx file or models:/NAME@ALIAS"):
        OnnxClassifier(tmp_path / "missing.onnx")


def test_only_the_registered_bytes_are_served(onnx_file: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(onnx_file.read_bytes()).hexdigest()
    assert OnnxClassifier(onnx_file, expected_sha256=digest).sha256 == digest
    other = onnx.load(onnx_file)
    other.doc_string = "changed"
    onnx.save(other, tmp_path / "other.onnx")
    OnnxClassifier(tmp_path / "other.onnx")
    with pytest.raises(ServiceError, match="is not the registered file: its SHA-256 is"):
        OnnxClassifier(tmp_path / "other.onnx", expected_sha256=digest)


def test_answers_do_not_depend_on_the_number_of_threads(onnx_file: Path) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    one, two = (OnnxClassifier(onnx_file, threads=threads).logits(squares) for threads in (1, 2))
    assert one == pytest.approx(two, abs=1e-6)


def test_a_square_is_what_the_models_own_settings_make_of_the_file(onnx_file: Path, images: Path) -> None:
    model = OnnxClassifier(onnx_file)
    assert model.square((images / "00.png").read_bytes()).shape == (16, 16, 3)
    with pytest.raises(UndecodableImage, match="more than 1"):
        model.square((images / "bad_large.png").read_bytes())
