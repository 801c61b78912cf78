"""The exported file says what the model said, from the raw image file on, in one file that knows how it is fed."""

import numpy as np
import onnx
import pytest
import torch
from exported_model import Exported
from numpy.typing import NDArray

from components.export.onnx_export import OPSET
from components.export.parity import agreement, torch_parity
from components.serving.onnx_classifier import INPUT, OUTPUT, OnnxClassifier


def test_torch_and_onnx_agree_on_raw_image_files(exported: Exported, image_files: list[bytes]) -> None:
    parity = torch_parity(exported.model, OnnxClassifier(exported.file), image_files)
    assert parity.images == 9
    assert parity.max_logit_difference < 1e-4
    assert parity.agreement == 1


def test_no_path_of_the_machine_that_exported_is_in_the_file(exported: Exported) -> None:
    content = exported.file.read_bytes()
    assert b"site-packages" not in content
    assert b"components/" not in content


def test_parity_notices_another_model(exported: Exported, image_files: list[bytes]) -> None:
    with torch.no_grad():
        bias = next(value for name, value in exported.model.named_parameters() if name.endswith("bias"))
        bias += 0.5
        try:
            parity = torch_parity(exported.model, OnnxClassifier(exported.file), image_files)
        finally:
            bias -= 0.5
    assert parity.max_logit_difference > 1e-3


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_gives_each_image_the_same_answer(exported: Exported, batch: int) -> None:
    squares = np.random.default_rng(1).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    model = OnnxClassifier(exported.file)
    together, alone = model.logits(squares[:batch]), [model.logits(square[None])[0] for square in squares[:batch]]
    assert together.shape == (batch, 3)
    assert together == pytest.approx(np.stack(alone), abs=1e-5)


def test_the_model_is_one_file_with_named_ends_of_the_stated_opset(exported: Exported) -> None:
    assert [path.name for path in exported.file.parent.iterdir()] == [exported.file.name]
    model = onnx.load(exported.file)
    assert [one.version for one in model.opset_import if one.domain == ""] == [OPSET]
    assert [one.name for one in model.graph.input] == [INPUT]
    assert [one.name for one in model.graph.output] == [OUTPUT]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_the_file_carries_its_card(exported: Exported) -> None:
    assert OnnxClassifier(exported.file).card == exported.card


def test_the_model_stays_as_it_was(exported: Exported) -> None:
    assert not exported.model.training
    assert {str(value.device) for value in exported.model.parameters()} == {"cpu"}


def test_agreement_is_the_fraction_of_equal_predictions() -> None:
    left: NDArray[np.int64] = np.array([0, 1, 0, 1])
    assert agreement(left, left.copy()) == 1
    assert agreement(left, 1 - left) == 0
    assert agreement(left, np.zeros(4, np.int64)) == 0.5
    assert agreement(np.array([[True, False], [True, True]]), np.array([[True, True], [True, True]])) == 0.5


def test_pooling_is_exported_without_a_copy_that_restores_a_layout(exported: Exported) -> None:
    assert not {"Gather", "Range"} & {node.op_type for node in onnx.load(exported.file).graph.node}
