"""The normalization at the input as one operator that stays where it is.

As a subtraction and a division it is moved behind the transposition of the picture by ONNX Runtime, which lays int8
networks out channels last: broadcasting over three channels at a time then costs as much as several convolutions.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

_MEAN, _STD = "mean", "std"
"""Buffers of components/models/classifier.ImageClassifier."""


def as_one_operator(model: onnx.ModelProto) -> None:
    """Exchanges, in place, the subtraction of the mean and the division by the deviation for one batch norm.

    A model without the two stays as it is.
    """
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    division = next((node for node in graph.node if node.op_type == "Div" and node.input[1] == _STD), None)
    subtraction = next((node for node in graph.node if node.op_type == "Sub" and node.input[1] == _MEAN), None)
    if division is None or subtraction is None or division.input[0] != subtraction.output[0]:
        return
    mean_C, std_C = values[_MEAN].ravel(), values[_STD].ravel()
    arguments = {"scale": 1 / std_C, "bias": 0 * std_C, "mean": mean_C, "variance": 1 + 0 * std_C}
    named = {f"normalization_{name}": value.astype(np.float32) for name, value in arguments.items()}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in named.items())
    norm = helper.make_node(
        "BatchNormalization",
        [subtraction.input[0], *named],
        list(division.output),
        name="normalization",
        epsilon=0.0,
    )
    place = list(graph.node).index(subtraction)
    graph.node.remove(subtraction)
    graph.node.remove(division)
    graph.node.insert(place, norm)
    unused = [tensor for tensor in graph.initializer if tensor.name in (_MEAN, _STD)]
    for tensor in unused:
        graph.initializer.remove(tensor)
