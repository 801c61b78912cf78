"""Quantization-aware training (QAT): fine-tuning with the rounding of int8 simulated.

It works on the exported graph of operators, in evaluation mode: batch norms keep their statistics
and are folded into the convolutions before them, as the quantizer folds them. Weights are rounded per output channel,
activations per tensor in ranges that calibration images fixed; gradients pass straight through (Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"; torch's fake_quantize
functions do the rounding).

Shapes: B images, H height, W width, C output channels, T logits.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from components.data.packed.calibration_images import calibration_images
from components.data.packed.loaders import PackedSplit
from components.models.classifier import ImageClassifier
from components.training.settings import FakeQuantization, TrainSettings

_BATCH = 16
_ACTIVATION_LEVELS = 255
_WEIGHT_LEVELS = {7: 64, 8: 127}
"""Largest rounded weight, as onnxruntime has it for signed, symmetric weights."""
_TINY = 1e-12
_WEIGHTED = ("conv2d", "linear")
_ROUNDED = (
    *(*_WEIGHTED, "matmul", "bmm", "scaled_dot_product_attention", "add", "mul", "cat", "mean", "avg_pool2d"),
    *("adaptive_avg_pool2d", "batch_norm", "layer_norm", "sigmoid", "silu", "hardswish", "hardsigmoid", "gelu", "tanh"),
)
"""Operators whose inputs are rounded. ReLU isn't among them: a convolution rounds what comes after its ReLU."""


class FakeQuantizedClassifier(ImageClassifier):
    """A classifier with the logits of its int8 file; it shares its network, and so its weights, with the classifier."""

    def __init__(self, classifier: ImageClassifier, rounding: FakeQuantization, train: PackedSplit) -> None:
        nn.Module.__init__(self)
        self.spec, self.net = classifier.spec, classifier.net
        self.register_buffer("mean", classifier.mean, persistent=False)
        self.register_buffer("std", classifier.std, persistent=False)
        graph = _graph_of(classifier)
        ranges: dict[str, tuple[float, float]] = {}
        if rounding.activations != "dynamic":
            pixels_NHWC = calibration_images(train, rounding.calibration_images).pixels_NHWC
            batches = [torch.from_numpy(pixels_NHWC[at : at + _BATCH]) for at in range(0, len(pixels_NHWC), _BATCH)]
            ranges = _ranges(graph, [self.normalized(batch) for batch in batches])
        _round(graph, rounding, ranges)
        # In a tuple, so that each weight is in the state once.
        self._graph = (graph,)

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """uint8 RGB to logits [B, T], with weights and activations rounded as in int8."""
        (graph,) = self._graph
        graph.to(images_BHWC.device)
        logits_BT: Tensor = graph(self.normalized(images_BHWC))
        return logits_BT


def qat_settings(train: TrainSettings) -> TrainSettings:
    """Settings of a short training from trained weights: the same images, loss and optimizer, without what only pays in
    long trainings."""
    return train.model_copy(
        update={
            "schedule": "cosine",
            "warmup_epochs": 0.0,
            "scale_learning_rate_with_batch": False,
            "patience": 0,
            "ema_decay": 0.0,
            "model_soup_size": 0,
            "cache_features": "off",
            "activation_checkpointing": False,
            "precision": "fp32",
            "channels_last": "off",
            "compile": "off",
        }
    )


def _graph_of(classifier: ImageClassifier) -> fx.GraphModule:
    """The exported network, over the same parameters."""
    side = classifier.spec.preprocess.image_size_px
    # A batch of 2: with 1, some operators freeze the batch size.
    example_BCHW = torch.zeros(2, 3, side, side)
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(classifier.net.eval(), (example_BCHW,), dynamic_shapes=dynamic, strict=False)
    graph = program.module()
    assert isinstance(graph, fx.GraphModule)
    return graph


def _operator(node: fx.Node) -> str:
    """Name of a node's operator, in place or not; empty for a node that is no operator of torch."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.removeprefix("aten::").rstrip("_") if schema is not None else ""


def _activations(node: fx.Node, operators: tuple[str, ...]) -> list[fx.Node]:
    """Inputs of a node that are rounded: float tensors that are no weights."""
    if node.op != "output" and _operator(node) not in operators:
        return []
    if _operator(node) == "batch_norm" and _folded_into(node) is not None:
        return []
    return [one for one in node.all_input_nodes if one.op != "get_attr" and _is_float(one)]


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _folded_into(norm: fx.Node) -> fx.Node | None:
    """The convolution that a batch norm is folded into; None where its output has other users."""
    source = norm.args[0]
    assert isinstance(source, fx.Node)
    return source if _operator(source) == "conv2d" and len(source.users) == 1 else None


class _RangeObserver(fx.Interpreter):
    """Runs the graph and records the range of each observed node's output."""

    def __init__(self, graph: fx.GraphModule, observed: set[fx.Node]) -> None:
        super().__init__(graph)
        self._observed = observed
        # Zero is in each range, as padding needs it to be exact.
        self.ranges = {node.name: (0.0, 0.0) for node in observed}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._observed:
            low, high = self.ranges[n.name]
            self.ranges[n.name] = (min(low, float(value.min())), max(high, float(value.max())))
        return value


def _ranges(graph: fx.GraphModule, batches_BCHW: list[Tensor]) -> dict[str, tuple[float, float]]:
    observer = _RangeObserver(graph, {one for node in graph.graph.nodes for one in _activations(node, _ROUNDED)})
    with torch.no_grad():
        for batch_BCHW in batches_BCHW:
            observer.run(batch_BCHW)
    return observer.ranges


def _round(graph: fx.GraphModule, rounding: FakeQuantization, ranges: dict[str, tuple[float, float]]) -> None:
    """Inserts the rounding into the graph."""
    dynamic = rounding.activations == "dynamic"
    weighted = ("linear",) if dynamic else _WEIGHTED
    before = [(node, _activations(node, weighted if dynamic else _ROUNDED)) for node in graph.graph.nodes]
    for node in [node for node, _ in before if _operator(node) in weighted]:
        _round_weight(graph.graph, node, _WEIGHT_LEVELS[rounding.weight_bits])
    rounded: dict[fx.Node, fx.Node] = {}
    for node, inputs in before:
        # In a dynamic file the logits are not the input of a rounded product.
        for one in inputs if node.op != "output" or not dynamic else []:
            if one not in rounded:
                with graph.graph.inserting_after(one):
                    rounded[one] = (
                        graph.graph.call_function(_round_by_own_range, (one,))
                        if dynamic
                        else graph.graph.call_function(_round_between, (one, *ranges[one.name]))
                    )
            node.replace_input_with(one, rounded[one])
    graph.recompile()


def _round_weight(graph: fx.Graph, node: fx.Node, levels: int) -> None:
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    norm = next(iter(node.users))
    folded = _operator(norm) == "batch_norm" and _folded_into(norm) is node
    # batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)
    factor = (norm.args[1], norm.args[4], norm.args[7]) if folded else (None, None, 0.0)
    with graph.inserting_before(node):
        node.replace_input_with(weight, graph.call_function(_rounded_weight, (weight, levels, *factor)))


def _rounded_weight(
    weight: Tensor, levels: int, scale_C: Tensor | None, variance_C: Tensor | None, eps: float
) -> Tensor:
    """A weight [C, …] whose product with the factor of the batch norm after it is rounded per output channel."""
    factor_C = weight.new_ones(len(weight))
    if variance_C is not None:
        factor_C = (variance_C + eps).rsqrt() * (1.0 if scale_C is None else scale_C)
        # A channel that the batch norm scales to zero has no weight to round.
        factor_C = torch.where(factor_C == 0, torch.ones_like(factor_C), factor_C)
    factor = factor_C.view(-1, *[1] * (weight.ndim - 1))
    folded = weight * factor
    step_C = folded.detach().abs().flatten(1).amax(dim=1).clamp_min(_TINY) / levels
    zero_C = torch.zeros_like(step_C, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(folded, step_C, zero_C, 0, -levels, levels) / factor


def _round_between(values: Tensor, low: float, high: float) -> Tensor:
    """Rounds to the 256 levels between the ends of a range, and clips what lies outside."""
    step = max(high - low, _TINY) / _ACTIVATION_LEVELS
    return torch.fake_quantize_per_tensor_affine(values, step, round(-low / step), 0, _ACTIVATION_LEVELS)


def _round_by_own_range(values: Tensor) -> Tensor:
    """Rounds by the range of the values themselves, as a dynamic file does."""
    detached = values.detach()
    return _round_between(values, min(0.0, float(detached.min())), max(0.0, float(detached.max())))
