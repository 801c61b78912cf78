"""Lightning checkpoints as safetensors: tensors beside a JSON skeleton, nothing pickled, files written atomically."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.shared.files import atomic_file

_SKELETON = "skeleton"
_CHANNELS_LAST = torch.channels_last


class SafetensorsCheckpoints(CheckpointIO):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        tensors: dict[str, Tensor] = {}
        skeleton = json.dumps(_flatten(checkpoint, tensors))
        with atomic_file(Path(path)) as temporary:
            save_file(tensors, temporary, metadata={_SKELETON: skeleton})

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        skeleton = json.loads(file.metadata()[_SKELETON])
        checkpoint: dict[str, Any] = _unflatten(skeleton, file)
    return checkpoint


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for the value, with each tensor under a name in `tensors`; types that JSON lacks are encoded."""
    match value:
        case Tensor():
            name = str(len(tensors))
            # Tied weights share memory, which the format refuses: each gets its own copy.
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            # A fused optimizer steps over memory as it lies: weights and their moments must have the same layout.
            flat = value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=_CHANNELS_LAST)
            return {"type": "tensor", "name": name} | ({"channels_last": True} if flat else {})
        case dict():
            pairs = [[_flatten(key, tensors), _flatten(item, tensors)] for key, item in value.items()]
            return {"type": "dict", "items": pairs}
        case list() | tuple():
            sequence = "list" if isinstance(value, list) else "tuple"
            return {"type": sequence, "items": [_flatten(item, tensors) for item in value]}
        case None | bool() | int() | float() | str():
            return value
        case _ if type(value).__name__ in ("HyperparametersMixin", "AttributeDict"):
            return _flatten(dict(value), tensors)
    raise TypeError(f"a checkpoint holds a {type(value).__name__}, which is neither a tensor nor plain data")


def _unflatten(node: Any, file: Any) -> Any:
    if not isinstance(node, dict):
        return node
    match node["type"]:
        case "tensor":
            tensor = file.get_tensor(node["name"])
            return tensor.contiguous(memory_format=_CHANNELS_LAST) if "channels_last" in node else tensor
        case "dict":
            return {_unflatten(key, file): _unflatten(item, file) for key, item in node["items"]}
        case sequence:
            items = [_unflatten(item, file) for item in node["items"]]
            return items if sequence == "list" else tuple(items)
