"""A network as parts from the image to the answer: what is frozen, unfrozen and given its own learning rate."""

from collections.abc import Iterable

from torch import nn
from torch.nn import Parameter

from components.models.attention_pooling import AttentionPool

_CONTAINERS = ("features", "layers", "encoder", "blocks", "stages")
_HEADS = ("fc", "classifier", "heads", "head")
_AUXILIARY = ("AuxLogits", "aux1", "aux2")
_UNDECAYED = (
    "class_token",
    "cls_token",
    "dist_token",
    "reg_token",
    "pos_embedding",
    "pos_embed",
    "relative_position_bias_table",
    "layer_scale",
    "logit_scale",
)
"""Weights of several dimensions that are no matrices."""


def parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of each part that has parameters, the head last."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        found += _opened(name, child) if name in _CONTAINERS else [(name, child)]
    found = [(name, part) for name, part in found if any(True for _ in part.parameters())]
    heads = [entry for entry in found if _in_head(*entry)]
    return [entry for entry in found if entry not in heads] + heads


def _opened(name: str, container: nn.Module) -> list[tuple[str, nn.Module]]:
    opened: list[tuple[str, nn.Module]] = []
    for child_name, child in container.named_children():
        full = f"{name}.{child_name}"
        opened += _opened(full, child) if child_name in _CONTAINERS else [(full, child)]
    return opened


def head_names(model: nn.Module) -> list[str]:
    return [name for name, part in parts(model) if _in_head(name, part)]


def _in_head(name: str, part: nn.Module) -> bool:
    # A learned pooling is new with the head, wherever the architecture keeps it.
    return name.split(".")[0] in (*_HEADS, *_AUXILIARY) or isinstance(part, AttentionPool)


def main_head(model: nn.Module) -> nn.Module:
    """The head that answers; GoogLeNet's and Inception's auxiliary ones are not it."""
    names = [name for name in head_names(model) if name.split(".")[0] not in _AUXILIARY]
    return model.get_submodule(names[-1])


def head_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the state's keys that belong to the head; the last layer alone where the head has several."""
    prefixes = []
    for name in head_names(model):
        module = model.get_submodule(name)
        layers = [inner for inner, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        last = layers[-1] if layers else ""
        prefixes.append(f"{name}.{last}." if last else f"{name}.")
    return tuple(prefixes)


def freeze_backbone(model: nn.Module) -> None:
    """Leaves only the head to learn."""
    unfreeze_last(model, len(head_names(model)))


def unfreeze_last(model: nn.Module, count: int) -> None:
    """Leaves the last `count` parts to learn; `keep_frozen_statistics` sees to the batch norms of the others."""
    model.requires_grad_(False)
    for _, part in parts(model)[-count:] if count else []:
        part.requires_grad_(True)


def learn_last(model: nn.Module, count: int, *, of: int) -> None:
    """Leaves the last `count` parts to learn for now, of the last `of` that the optimizer was given."""
    everything = of >= len(parts(model))
    for position, (_, part) in enumerate(reversed(parts(model)[-of:])):
        part.requires_grad_(position < count)
    if everything:
        # What stands in no part, such as a transformer's class token, learns with the first one.
        owned = {id(value) for _, part in parts(model) for value in part.parameters()}
        for value in model.parameters():
            if id(value) not in owned:
                value.requires_grad_(count >= of)


def keep_frozen_statistics(model: nn.Module, *, every: bool = False) -> None:
    """Puts the batch norms of frozen parts, or every one, in evaluation mode; call it after model.train()."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (every or not _learns(module.parameters())):
            module.eval()


def parameter_groups(
    model: nn.Module, *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, object]]:
    """Groups for an optimizer: each part's rate is part_decay times the next one's; no decay of norms and biases, nor
    of the tables, tokens and scales that timm and torchvision's references leave out by name."""
    ordered = parts(model)
    owner = {id(value): position for position, (_, part) in enumerate(ordered) for value in part.parameters()}
    groups: dict[tuple[int, bool], list[Parameter]] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            decays = value.ndim > 1 and name.rpartition(".")[2] not in _UNDECAYED
            groups.setdefault((owner.get(id(value), 0), decays), []).append(value)
    return [
        {
            "params": values,
            "lr": learning_rate * layer_decay ** (len(ordered) - 1 - position),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (position, decays), values in sorted(groups.items(), key=lambda item: item[0])
    ]


def _learns(values: Iterable[Parameter]) -> bool:
    return any(value.requires_grad for value in values)
