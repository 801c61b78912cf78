"""Smaller forms of an ONNX model: int8 in many ways, and fp16.

Which way is fast and exact depends on the network and on the processor. So a `Quantizer` writes a model by any recipe,
preparing and calibrating it once, and quantization_search.py tries recipes and scores what was measured.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization import qdq_loss_debug as distortion
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process

from components.data.packed.calibration_images import CalibrationImages
from components.export.onnx_export import write_model
from components.export.onnx_normalization import as_one_operator
from components.export.quiet_exporters import quiet
from components.serving.onnx_classifier import INPUT, ModelCard
from components.shared.processor import Processor

_BATCH = 16
_HISTOGRAM_IMAGES = 64
"""Of which percentiles are taken: all values of all layers are held in memory at once."""
_DISTORTION_IMAGES = 8
_KEPT_FLOAT = ("Cast", "BatchNormalization", "Transpose")
"""The normalization at the input stays in float: in int8 it would round the picture itself."""
_WEIGHTED = ("MatMul", "Gemm")
_ACTIVATIONS = ("Relu", "Clip", "Sigmoid", "HardSwish", "HardSigmoid", "Gelu", "Tanh")


@dataclass(frozen=True)
class Recipe:
    """One way to int8; weights are signed and per channel in all of them."""

    name: str
    activations: Literal["unsigned", "signed", "dynamic"]
    """dynamic: matrix products alone, their ranges taken from each input, unsigned as ONNX has no other way."""
    reduce_range: bool = False
    """Weights in 7 bits: no saturation on processors without VNNI, at a small loss of resolution."""
    calibration: Literal["minmax", "percentile"] = "minmax"
    excluded: tuple[str, ...] = ()
    """Nodes that stay in float."""

    def saturates(self, processor: Processor) -> bool:
        """Whether sums of products overflow on this processor, so that the file computes something else.

        x86 without VNNI adds pairs of unsigned times signed products in 16 bits, which full 8-bit weights overflow.
        """
        return self.activations != "signed" and not self.reduce_range and processor.adds_in_16_bits


U8S8 = Recipe("u8s8", "unsigned")
U8S8_REDUCED = Recipe("u8s8_reduced", "unsigned", reduce_range=True)
S8S8 = Recipe("s8s8", "signed")
DYNAMIC = Recipe("dynamic", "dynamic")
DYNAMIC_REDUCED = Recipe("dynamic_reduced", "dynamic", reduce_range=True)


class Quantizer:
    """Writes one fp32 file in other forms. A context: what it prepares is kept until it is left."""

    def __init__(self, source: Path, *, calibration: CalibrationImages, card: ModelCard) -> None:
        self._source, self._calibration, self._card = source, calibration, card
        self._scratch = tempfile.TemporaryDirectory(prefix="darkroom-")

    def __enter__(self) -> Self:
        with quiet():
            quant_pre_process(self._source, self._prepared, skip_symbolic_shape=True)
        prepared = onnx.load(self._prepared)
        as_one_operator(prepared)
        onnx.save(prepared, self._prepared)
        self._normalization = _normalization_nodes(prepared)
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    @property
    def is_transformer(self) -> bool:
        """Whether it multiplies activations with each other, and more weights are in products than in convolutions.

        The first alone holds for a convolutional net with an attention pooling, the second for LeNet and VGG.
        """
        graph = onnx.load(self._prepared).graph
        sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
        constants = {name for node in graph.node if node.op_type == "Constant" for name in node.output} | sizes.keys()

        def weights(*kinds: str) -> int:
            return sum(sizes.get(name, 0) for node in graph.node if node.op_type in kinds for name in node.input)

        attends = any(node.op_type == "MatMul" and not constants & set(node.input) for node in graph.node)
        return attends and weights(*_WEIGHTED) > weights("Conv")

    def write(self, recipe: Recipe, target: Path) -> None:
        """The int8 file of one recipe. Equal images give equal bytes."""
        draft = self._place("int8.onnx")
        with quiet():
            if (calibration := self.calibration_of(recipe)) is None:
                self._write_dynamic(recipe, draft)
            else:
                self._write_static(recipe, calibration, draft)
        write_model(onnx.load(draft), target, card=self._int8_card(recipe))

    def write_half(self, target: Path) -> None:
        """The fp16 file; pictures go in and logits come out as in fp32."""
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with quiet():
            half = convert_float_to_float16(
                onnx.load(self._prepared), keep_io_types=True, node_block_list=self._normalization
            )
        model = ONNXModel(half)
        # The converter appends its casts at the end, and leaves types behind that no longer hold.
        model.topological_sort()
        model.model.graph.ClearField("value_info")
        write_model(model.model, target, card=replace(self._card, format="fp16"))

    def calibration_of(self, recipe: Recipe) -> CalibrationImages | None:
        """The images that fix the ranges of a recipe; None where each input does."""
        if recipe.activations == "dynamic":
            return None
        return self._calibration.spread(_HISTOGRAM_IMAGES) if recipe.calibration == "percentile" else self._calibration

    def most_distorted(self, file: Path) -> list[tuple[str, ...]]:
        """For each result that this int8 file rounds, the worst first: all nodes that must stay in float to keep it."""
        images_NHWC = self._calibration.pixels_NHWC[:_DISTORTION_IMAGES]
        runs = {}
        for name, model in (("float", self._prepared), ("int8", file)):
            spied = self._place(f"spied_{name}.onnx")
            with quiet():
                distortion.modify_model_output_intermediate_tensors(str(model), str(spied))
                runs[name] = distortion.collect_activations(str(spied), _Calibration(images_NHWC))
        matching = distortion.create_activation_matching(runs["int8"], runs["float"])
        decibels = {
            tensor: distortion.compute_signal_to_quantization_noice_ratio(one["pre_qdq"], one["post_qdq"])
            for tensor, one in matching.items()
        }
        graph = onnx.load(self._prepared).graph
        around = {tensor: _around(graph, tensor) for tensor in sorted(decibels, key=lambda tensor: decibels[tensor])}
        return [nodes for nodes in around.values() if nodes and not set(nodes) & set(self._normalization)]

    def _int8_card(self, recipe: Recipe) -> ModelCard:
        calibration = self.calibration_of(recipe)
        digest = calibration.digest if calibration is not None else None
        return replace(self._card, format="int8", calibration_digest=digest)

    def _write_static(self, recipe: Recipe, calibration: CalibrationImages, draft: Path) -> None:
        percentile = recipe.calibration == "percentile"
        quantize_static(
            self._prepared,
            draft,
            _Calibration(calibration.pixels_NHWC),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if recipe.activations == "signed" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=recipe.reduce_range,
            nodes_to_exclude=[*self._normalization, *recipe.excluded],
            calibrate_method=CalibrationMethod.Percentile if percentile else CalibrationMethod.MinMax,
            # ONNX Runtime rounds the biases as it loads the file: a scale and a zero point a channel needn't be in it.
            extra_options={"QuantizeBias": False} | ({"CalibPercentile": 99.99} if percentile else {}),
            # Ranges depend on the images alone: the first recipe finds them, the others read them.
            calibration_cache_path=self._place(f"ranges_{recipe.calibration}.json"),
        )

    def _write_dynamic(self, recipe: Recipe, draft: Path) -> None:
        proto = onnx.load(self._prepared)
        # Shapes that the exporter left behind make quantize_dynamic fail.
        proto.graph.ClearField("value_info")
        quantize_dynamic(
            proto,
            draft,
            op_types_to_quantize=list(_WEIGHTED),
            per_channel=True,
            reduce_range=recipe.reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(recipe.excluded),
        )

    @property
    def _prepared(self) -> Path:
        return self._place("prepared.onnx")

    def _place(self, name: str) -> Path:
        return Path(self._scratch.name) / name


class _Calibration(CalibrationDataReader):
    def __init__(self, pixels_NHWC: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            np.array_split(pixels_NHWC, max(1, len(pixels_NHWC) // _BATCH))
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch)}


def _around(graph: onnx.GraphProto, tensor: str) -> tuple[str, ...]:
    """The nodes that use the tensor and those that make it, back to before its activation function."""
    nodes = [node.name for node in graph.node if tensor in node.input]
    makers = {output: node for node in graph.node for output in node.output}
    while tensor in makers:
        maker = makers[tensor]
        nodes.append(maker.name)
        if maker.op_type not in _ACTIVATIONS:
            break
        tensor = maker.input[0]
    return tuple(nodes)


def _normalization_nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes between the input and the first convolution or other operator that has weights."""
    names, frontier = [], {INPUT}
    for node in model.graph.node:
        if node.op_type in _KEPT_FLOAT and frontier & set(node.input):
            names.append(node.name)
            frontier |= set(node.output)
    return names
