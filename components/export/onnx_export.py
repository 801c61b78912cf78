"""A torch classifier as one ONNX file: normalization inside, any batch size, its card in the metadata."""

import copy
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from torch import nn

from components.export.quiet_exporters import quiet
from components.models.classifier import ImageClassifier
from components.models.features import last_layer
from components.serving.onnx_classifier import INPUT, OUTPUT, ModelCard
from components.shared.files import atomic_file
from components.task.task import DecisionRule

OPSET = 20


def export_onnx(model: ImageClassifier, target: Path, *, card: ModelCard) -> None:
    """Writes the file and checks it with onnx.checker."""
    write_model(_graph(model, output=OUTPUT), target, card=card)


def export_features(model: ImageClassifier, target: Path) -> None:
    """Writes what the last layer is given, as a file without a card: uint8 RGB [B, side, side, 3] to [B, F]."""
    bare = copy.deepcopy(model)
    layer = last_layer(bare.net)
    name = next(name for name, module in bare.net.named_modules() if module is layer)
    bare.net.set_submodule(name, nn.Identity())
    _write(_graph(bare, output="features"), target)


def write_model(proto: onnx.ModelProto, target: Path, *, card: ModelCard) -> None:
    """The one place where a model file is written: single file, checked, with its card."""
    onnx.helper.set_model_props(proto, card.to_metadata())
    _write(proto, target)


def _write(proto: onnx.ModelProto, target: Path) -> None:
    """Of what torch's exporter notes at each node, stack traces with paths of this machine, nothing is kept."""
    for node in proto.graph.node:
        node.ClearField("metadata_props")
    onnx.checker.check_model(proto, full_check=True)
    with atomic_file(target) as draft:
        draft.write_bytes(proto.SerializeToString(deterministic=True))


def _graph(model: ImageClassifier, *, output: str) -> onnx.ModelProto:
    side = model.spec.preprocess.image_size_px
    # A batch of 2: exported with 1, some operators freeze the batch size.
    example_BHWC = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with quiet():
        program = torch.onnx.export(
            model.cpu().eval(),
            (example_BHWC,),
            input_names=[INPUT],
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
    assert program is not None
    return program.model_proto


def write_decision_rule(file: Path, rule: DecisionRule) -> None:
    """Gives the model file another rule for its answers; all else in it stays."""
    proto = onnx.load(file)
    card = ModelCard.from_metadata({entry.key: entry.value for entry in proto.metadata_props}, file.name)
    write_model(proto, file, card=replace(card, decision_rule=rule))
