"""A network's layer groups, in order from the image to the logits."""

import pytest
import torch
from torch import nn

from components.models.architectures import build, build_on_meta
from components.models.layer_groups import (
    freeze_backbone,
    freeze_batch_norms,
    head_names,
    head_prefixes,
    layer_groups,
    main_head,
    parameter_groups,
    unfreeze_last,
)


def network(name: str, side: int = 64) -> nn.Module:
    return build(name, num_classes=3, image_size_px=side)


@pytest.mark.parametrize(
    ("name", "first", "head", "last_layer"),
    [
        ("plain", "features.block1", ["classifier"], ("classifier.",)),
        ("lenet5", "features.c1", ["classifier"], ("classifier.",)),
        ("resnet18", "conv1", ["fc"], ("fc.",)),
        ("mobilenet_v3_small", "features.0", ["classifier"], ("classifier.3.",)),
        ("squeezenet1_1", "features.0", ["classifier"], ("classifier.1.",)),
        ("vit_b_16", "conv_proj", ["heads"], ("heads.head.",)),
        ("googlenet", "conv1", ["aux1", "aux2", "fc"], ("aux1.fc2.", "aux2.fc2.", "fc.")),
    ],
)
def test_layer_groups_lead_from_the_image_to_the_head(
    name: str, first: str, head: list[str], last_layer: tuple[str, ...]
) -> None:
    model = network(name, 32 if name == "vit_b_16" else 64)
    names = [group.name for group in layer_groups(model)]
    assert names[0] == first
    assert sorted(names[-len(head) :]) == head
    assert sorted(head_names(model)) == head
    assert tuple(sorted(head_prefixes(model))) == last_layer
    assert all(any(key.startswith(prefix) for key in model.state_dict()) for prefix in last_layer)


TIMM = ["timm/resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", ["plain", "lenet5", "resnet18", "mobilenet_v3_small", "googlenet", "vit_b_16", *TIMM])
def test_each_parameter_stands_in_one_group(name: str) -> None:
    model = build_on_meta(name, num_classes=3, image_size_px=32 if name == "vit_b_16" else 64)
    names = [parameter for group in layer_groups(model) for parameter in group.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert len({group.name for group in layer_groups(model)}) == len(layer_groups(model))


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm_divide_as_timm_says(name: str) -> None:
    model = build_on_meta(name, num_classes=3, image_size_px=64)
    first, *_, last = layer_groups(model)
    assert len(layer_groups(model)) >= 6
    assert any(name.startswith(("conv1", "conv_stem", "stem", "patch_embed")) for name in first.parameters)
    (head,) = head_names(model)
    assert last.parameters == [f"{head}.weight", f"{head}.bias"]
    assert main_head(model) is model.get_classifier()  # type: ignore[operator]
    freeze_backbone(model)
    assert learning(model) == set(last.parameters)


def learning(model: nn.Module) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


def test_freezing_leaves_the_head_alone_to_learn() -> None:
    model = network("resnet18")
    freeze_backbone(model)
    assert learning(model) == {"fc.weight", "fc.bias"}


def test_unfreezing_counts_groups_from_the_head() -> None:
    model = network("plain")
    unfreeze_last(model, 2)
    assert {name.rpartition(".")[0].split(".")[0] for name in learning(model)} == {"features", "classifier"}
    assert all(name.startswith(("features.block3", "classifier")) for name in learning(model))
    unfreeze_last(model, 0)
    assert learning(model) == set()


def test_batch_norms_of_frozen_groups_keep_their_statistics() -> None:
    model = network("plain", 16)
    unfreeze_last(model, 2)
    model.train()
    freeze_batch_norms(model)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.rand(4, 3, 16, 16))
    moved = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("features.block3") for name in moved)


def test_learning_rates_fall_from_the_head_to_the_image() -> None:
    model = network("plain")
    groups = parameter_groups(model, learning_rate=0.1, weight_decay=0.01, layer_decay=0.5)
    owner = {id(value): name for name, value in model.named_parameters()}
    rates = {owner[id(value)]: group["lr"] for group in groups for value in group["params"]}  # type: ignore[attr-defined]
    assert rates["classifier.weight"] == pytest.approx(0.1)
    assert rates["features.block3.0.weight"] == pytest.approx(0.05)
    assert rates["features.block1.0.weight"] == pytest.approx(0.0125)
    assert set(rates) == set(owner.values())


def test_norms_and_biases_do_not_decay() -> None:
    model = network("resnet18")
    groups = parameter_groups(model, learning_rate=0.1, weight_decay=0.01, layer_decay=1)
    for group in groups:
        for value in group["params"]:  # type: ignore[attr-defined]
            assert group["weight_decay"] == (0.01 if value.ndim > 1 else 0.0)


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("swin_t", "features.1.0.attn.relative_position_bias_table"),
        ("convnext_tiny", "features.1.0.layer_scale"),
        ("vit_b_32", "class_token"),
        ("vit_b_32", "encoder.pos_embedding"),
    ],
)
def test_tables_tokens_and_scales_do_not_decay_but_matrices_do(name: str, spared: str) -> None:
    model = build_on_meta(name, num_classes=3, image_size_px=64)
    groups = parameter_groups(model, learning_rate=0.1, weight_decay=0.01, layer_decay=1)
    decay = {id(value): group["weight_decay"] for group in groups for value in group["params"]}  # type: ignore[attr-defined]
    assert len(decay) == len(list(model.parameters()))
    assert decay[id(model.get_parameter(spared))] == 0
    assert decay[id(main_head(model).get_parameter(last_weight(model)))] == 0.01


def last_weight(model: nn.Module) -> str:
    return [name for name, _ in main_head(model).named_parameters() if name.endswith("weight")][-1]


def test_frozen_parameters_are_in_no_group() -> None:
    model = network("resnet18")
    freeze_backbone(model)
    groups = parameter_groups(model, learning_rate=0.1, weight_decay=0.01, layer_decay=0.5)
    values = [value for group in groups for value in group["params"]]  # type: ignore[attr-defined]
    assert {id(value) for value in values} == {id(value) for value in model.fc.parameters()}  # type: ignore[union-attr]
    assert {group["lr"] for group in groups} == {0.1}


def test_parameters_outside_the_children_learn_at_the_rate_of_the_first_group() -> None:
    model = network("vit_b_16", 32)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0, layer_decay=0.5)
    rate = {id(value): group["lr"] for group in groups for value in group["params"]}  # type: ignore[attr-defined]
    assert rate[id(model.class_token)] == rate[id(model.conv_proj.weight)]  # type: ignore[union-attr]
    assert rate[id(model.class_token)] < rate[id(model.heads.head.weight)] == 1.0  # type: ignore[union-attr]
