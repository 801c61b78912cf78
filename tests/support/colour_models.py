"""Models that are known by heart: ONNX files of four operators that tell colours from the means of the channels."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from components.data.images.preprocessing import PreprocessSettings
from components.serving.onnx_classifier import INPUT, OUTPUT, ModelCard
from components.task.single_label import SingleLabel

COLOURS = ("blue", "green", "red")
SIDE = 16


def colour_model(
    file: Path, *, red_bias: float = 0.0, classes: tuple[str, ...] = COLOURS, provider: str = "cpu"
) -> Path:
    """Says the channel with the largest mean; with a bias for red it takes dull images of other colours for red."""
    weights = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)[:, : len(classes)]
    bias = np.array([0, 0, red_bias], np.float32)[: len(classes)]
    nodes = [
        helper.make_node("Cast", [INPUT], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["raised"]),
        helper.make_node("Add", ["raised", "bias"], [OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", len(classes)])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    preprocess = PreprocessSettings(image_size_px=SIDE, resize="stretch", max_megapixels=1)
    task = SingleLabel(classes=list(classes))
    card = ModelCard("colours", task, preprocess, format="int8", data_version="d", run_id="r", provider=provider)
    helper.set_model_props(proto, card.to_metadata())
    onnx.save(proto, file)
    return file
