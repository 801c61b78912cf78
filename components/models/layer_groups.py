"""A network's layer groups, from the image to the logits: what is frozen, unfrozen and given its own learning rate.

timm's networks say themselves how they divide; torchvision's and ours divide by their children.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are frozen, unfrozen and given a learning rate together."""

    name: str
    """Name of its module, or of its first parameter in a network of timm."""
    parameters: list[str]
    """Their names in the network."""


def layer_groups(model: nn.Module) -> list[LayerGroup]:
    """Groups that hold each parameter of the network once, from the image to the head."""
    return _groups_of_timm(model) if _is_timm(model) else _groups_of_children(model)


def head_names(model: nn.Module) -> list[str]:
    """Names of the modules that form the head: the classifier, auxiliary classifiers, and a learned pooling."""
    if _is_timm(model):
        configuration: Any = model.default_cfg
        found: str | tuple[str, ...] = configuration["classifier"]
        return [found] if isinstance(found, str) else list(found)
    return [name for name, child in _children(model) if _in_head(name, child)]


def main_head(model: nn.Module) -> nn.Module:
    """The head that gives the logits; GoogLeNet's and Inception's auxiliary ones are not it."""
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


def backbone_children(model: nn.Module) -> list[nn.Module]:
    """The modules with parameters that run one after another before the head."""
    heads = head_names(model)
    children = ((name, child) for name, child in _children(model) if any(True for _ in child.parameters()))
    return [child for name, child in children if not any(_within(head, [name]) for head in heads)]


def freeze_backbone(model: nn.Module) -> None:
    """Leaves only the head trainable."""
    unfreeze_last(model, len(head_names(model)))


def unfreeze_last(model: nn.Module, count: int) -> None:
    """Leaves only the last `count` groups trainable; `freeze_batch_norms` sees to the statistics of the others."""
    model.requires_grad_(False)
    for group in layer_groups(model)[-count:] if count else []:
        for name in group.parameters:
            model.get_parameter(name).requires_grad_(True)


def freeze_batch_norms(model: nn.Module, *, every: bool = False) -> None:
    """Puts the batch norms of frozen groups, or every one, in evaluation mode; call it after model.train()."""
    for module in model.modules():
        frozen = not any(value.requires_grad for value in module.parameters())
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (every or frozen):
            module.eval()


def parameter_groups(
    model: nn.Module, *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, object]]:
    """Groups for an optimizer: each layer group's rate is layer_decay times the next one's; no weight decay of norms
    and biases, nor of the tables, tokens and scales that timm and torchvision's references leave out by name."""
    ordered = layer_groups(model)
    position = {name: number for number, group in enumerate(ordered) for name in group.parameters}
    groups: dict[tuple[int, bool], list[Parameter]] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            decays = value.ndim > 1 and name.rpartition(".")[2] not in _UNDECAYED
            groups.setdefault((position[name], decays), []).append(value)
    return [
        {
            "params": values,
            "lr": learning_rate * layer_decay ** (len(ordered) - 1 - number),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (number, decays), values in sorted(groups.items(), key=lambda item: item[0])
    ]


def _is_timm(model: nn.Module) -> bool:
    return hasattr(model, "group_matcher")


def _groups_of_timm(model: nn.Module) -> list[LayerGroup]:
    """timm's stages, with the classifier apart from what else stands in its last group."""
    from timm.models import group_parameters

    matcher: Any = model.group_matcher
    heads = head_names(model)
    stages = [names for _, names in sorted(group_parameters(model, matcher(coarse=True)).items())]
    backbone = [[name for name in names if not _within(name, heads)] for names in stages]
    in_heads = [[name for name, _ in model.named_parameters() if _within(name, [head])] for head in heads]
    return [LayerGroup(names[0], names) for names in [*backbone, *in_heads] if names]


def _groups_of_children(model: nn.Module) -> list[LayerGroup]:
    children = dict(_children(model))
    ordered = sorted(children, key=lambda name: _in_head(name, children[name]))
    members: dict[str, list[str]] = {name: [] for name in ordered}
    loose: list[str] = []
    for parameter, _ in model.named_parameters():
        owner = next((name for name in members if _within(parameter, [name])), None)
        (loose if owner is None else members[owner]).append(parameter)
    groups = [LayerGroup(name, names) for name, names in members.items() if names]
    # What stands in no child, such as a transformer's class token, belongs to the first group.
    groups[0].parameters.extend(loose)
    return groups


def _children(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children by name, with a container's children in its place."""
    for name, child in model.named_children():
        if name in _CONTAINERS:
            yield from _children(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _in_head(name: str, child: nn.Module) -> bool:
    # A learned pooling is new with the head, wherever the architecture keeps it.
    return name.split(".")[0] in (*_HEADS, *_AUXILIARY) or isinstance(child, AttentionPool)


def _within(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
