"""Static int8 in ONNX's QDQ form, calibrated on training images.

Which signedness is fast and exact depends on the processor, so the variants are measured here and the caller judges.
"""

import logging
import tempfile
from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from components.export.onnx_export import write_model
from components.serving.classifier import INPUT, ModelCard

_BATCH = 32
_KEPT_FLOAT = ("Cast", "Sub", "Div", "Transpose")
"""The normalization at the input stays in float: in int8 it would round the picture itself."""


@dataclass(frozen=True)
class Variant:
    """One way to quantize."""

    name: str
    activations: QuantType
    reduce_range: bool
    """Weights in 7 bits: no saturation on processors without VNNI, at a small loss of resolution."""


VARIANTS = (
    Variant("u8s8", QuantType.QUInt8, False),
    Variant("u8s8_reduced", QuantType.QUInt8, True),
    Variant("s8s8", QuantType.QInt8, False),
)


def quantize(
    source: Path, target: Path, *, variant: Variant, calibration_NHWC: NDArray[np.uint8], card: ModelCard
) -> None:
    """Writes the int8 file of one variant; weights per channel."""
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        prepared, quantized = Path(scratch) / "prepared.onnx", Path(scratch) / "int8.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Calibration(calibration_NHWC),
            quant_format=QuantFormat.QDQ,
            activation_type=variant.activations,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=variant.reduce_range,
            nodes_to_exclude=_normalization_nodes(onnx.load(prepared)),
        )
        write_model(onnx.load(quantized), target, card=replace(card, format="int8"))


def calibration_sample(images: Sized, count: int) -> NDArray[np.int64]:
    """Places of `count` images spread evenly over the array, so that equal data gives equal ranges."""
    return np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64))


class _Calibration(CalibrationDataReader):
    def __init__(self, pixels_NHWC: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            np.array_split(pixels_NHWC, max(1, len(pixels_NHWC) // _BATCH))
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch)}


def _normalization_nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes between the input and the first convolution or other operator that has weights."""
    names, frontier = [], {INPUT}
    for node in model.graph.node:
        if node.op_type in _KEPT_FLOAT and frontier & set(node.input):
            names.append(node.name)
            frontier |= set(node.output)
    return names
