"""Every architecture by name."""

import math

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops.misc import SqueezeExcitation

from components.models.architectures import (
    build,
    build_on_meta,
    check_architecture,
    check_image_size,
)
from components.models.catalogue import COMPOUND, OWN_ARCHITECTURES
from components.models.compound_scaling import compound_scale
from components.models.layer_groups import head_names
from components.models.stems import describe_stem, stem_for
from components.models.zoo import torchvision_names
from components.shared.errors import SettingsError

LARGEST = 150_000_000
"""Parameters; a larger network takes seconds and gigabytes for one step on a CPU."""
EVERY_NAME = [*OWN_ARCHITECTURES, *torchvision_names()]
TOO_LARGE = {"convnext_large", "regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32"}


def smallest_side(name: str) -> int:
    """In pixels, of those that people have; MaxViT takes multiples of 224 alone."""
    return {"maxvit_t": 224, "inception_v3": 32}.get(name, 32 if name.startswith("vgg") else 16)


def num_parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def compound_of(name: str) -> float | None:
    return -2.0 if name == COMPOUND else None


def norms(model: nn.Module) -> torch.Tensor:
    """Of each parameter."""
    return torch.stack([value.detach().norm() for value in model.parameters()])


def without_gradient(model: nn.Module) -> list[str]:
    return [path for path, value in model.named_parameters() if value.grad is None]


def loss_of(model: nn.Module, images_BCHW: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of all that the network answers in training: GoogLeNet's and Inception's auxiliary heads too."""
    output = model(images_BCHW)
    answers = output if isinstance(output, tuple) else (output,)
    assert len(answers) == {"GoogLeNet": 3, "Inception3": 2}.get(type(model).__name__, 1)
    target_B = torch.arange(len(images_BCHW), device=images_BCHW.device) % 3
    return torch.stack([nn.functional.cross_entropy(logits_BK, target_B) for logits_BK in answers]).sum()


@pytest.mark.parametrize("name", [name for name in EVERY_NAME if name not in TOO_LARGE])
def test_every_architecture_is_built_and_trained_for_one_step(name: str) -> None:
    side = smallest_side(name)
    torch.manual_seed(0)
    model = build(name, num_classes=3, image_size_px=side, compound=compound_of(name)).train()
    before = norms(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = loss_of(model, torch.rand(2, 3, side, side))
    loss.backward()
    assert without_gradient(model) == []
    optimizer.step()
    after = norms(model)
    assert loss.isfinite()
    assert after.isfinite().all()
    assert (after != before).any()


@pytest.mark.parametrize("name", sorted(TOO_LARGE))
def test_of_the_largest_architectures_every_shape_is_computed(name: str) -> None:
    """Forward and backward, and nothing is computed."""
    side = smallest_side(name)
    model = build_on_meta(name, num_classes=3, image_size_px=side).train()
    assert num_parameters(model) > LARGEST
    loss_of(model, torch.empty(2, 3, side, side, device="meta")).backward()
    assert without_gradient(model) == []


def test_the_named_architectures_are_all_there() -> None:
    families = {"alexnet", "googlenet", "inception_v3", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "densenet121"}
    families |= {f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")}
    families |= {f"efficientnet_b{size}" for size in range(8)} | {f"efficientnet_v2_{size}" for size in "sml"}
    families |= {"mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t"}
    assert families <= set(EVERY_NAME)


@pytest.mark.parametrize(
    ("name", "last_map"),
    [
        ("resnet18", 4),
        ("mobilenet_v3_small", 4),
        ("regnet_y_400mf", 4),
        ("convnext_tiny", 4),
        ("swin_t", 4),
    ],
)
def test_the_small_stem_leaves_out_two_halvings(name: str, last_map: int) -> None:
    """A network that reduces an image 32 times leaves of 32 px a single place; with the small stem 4 × 4."""
    assert stem_for(name, 63) == "small"
    assert stem_for(name, 64) == "own"
    sides = []
    for stem in ("small", "own"):
        model = build_on_meta(name, num_classes=2, image_size_px=32, stem=stem)
        seen: list[int] = []
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.LayerNorm):
                layer.register_forward_hook(lambda layer, _, out, seen=seen: seen.append(side_of(layer, out)))
        model.eval()(torch.empty(1, 3, 32, 32, device="meta"))
        # Squeeze-and-excitation convolves a single place, which is no resolution.
        sides.append(min(side for side in seen if side > 1) if stem == "small" else min(seen))
    assert sides == [last_map, 1]


def side_of(layer: nn.Module, maps: torch.Tensor) -> int:
    """Norms of transformers see channels last; those after the pooling see no map."""
    if isinstance(layer, nn.Conv2d):
        return maps.shape[-1]
    return maps.shape[1] if maps.ndim == 4 else 1


def test_a_transformer_cuts_small_images_into_small_patches() -> None:
    model = build_on_meta("vit_b_16", num_classes=2, image_size_px=32)
    assert model.conv_proj.kernel_size == (4, 4)  # type: ignore[union-attr]
    assert describe_stem("vit_b_16", "small", 32) == "small-image stem for 32 px: patches of 4 px"


@pytest.mark.parametrize("name", ["plain", "lenet5", "vgg11", "timm/resnet18"])
def test_some_networks_need_no_small_stem_or_keep_theirs(name: str) -> None:
    assert stem_for(name, 32) == "own"


@pytest.mark.parametrize(("coefficient", "side"), [(0.0, 224), (1.0, 258), (2.0, 296), (-2.0, 169)])
def test_one_number_scales_depth_width_and_resolution(coefficient: float, side: int) -> None:
    scale = compound_scale(coefficient)
    assert scale.image_size_px == side
    assert scale.depth == pytest.approx(1.2**coefficient)
    assert scale.width == pytest.approx(1.1**coefficient)


def test_the_compound_coefficient_0_is_b0() -> None:
    ours = build_on_meta("efficientnet", num_classes=1000, image_size_px=224, compound=0.0)
    published = build_on_meta("efficientnet_b0", num_classes=1000, image_size_px=224)
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in published.state_dict().items()
    }
    sizes = [
        num_parameters(build_on_meta("efficientnet", num_classes=9, image_size_px=64, compound=c))
        for c in (-2.0, 0.0, 2.0)
    ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_v2_s", "mnasnet1_0", "timm/efficientnet_lite0"])
def test_a_fresh_network_starts_at_chance_level(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, num_classes=10, image_size_px=64).train()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(torch.randn(16, 3, 64, 64)), torch.arange(16) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.4)


def test_for_many_classes_the_last_layer_is_drawn_as_its_authors_do() -> None:
    torch.manual_seed(0)
    ours = build("efficientnet_b0", num_classes=1000, image_size_px=224).classifier[1].weight
    torch.manual_seed(0)
    theirs = torchvision.models.efficientnet_b0(num_classes=1000).classifier[1].weight
    assert torch.equal(ours, theirs)


def test_a_squeeze_and_excitation_net_weights_the_channels_of_each_block() -> None:
    model = build("se_resnet18", num_classes=2, image_size_px=32).eval()
    weighing = [layer for layer in model.modules() if isinstance(layer, SqueezeExcitation)]
    assert len(weighing) == 8
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        before = model(images)
        for layer in weighing:
            layer.fc2.bias.fill_(-30.0)  # every channel is closed: only the shortcuts are left
        assert not torch.allclose(model(images), before)


def test_timm_builds_by_name_for_any_size_and_takes_part_in_freezing() -> None:
    model = build("timm/resnet10t", num_classes=3, image_size_px=32)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert head_names(model) == ["fc"]
    vit = build_on_meta("timm/vit_tiny_patch16_224", num_classes=3, image_size_px=64)
    assert vit(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 3)
    assert head_names(vit) == ["head"]


def test_an_unknown_name_of_timm_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"timm/resnet1O is unknown; did you mean resnet1"):
        check_architecture("timm/resnet1O")


def test_a_name_that_torchvision_lacks_is_timms_and_one_that_both_have_is_torchvisions() -> None:
    assert type(build_on_meta("resnet18", num_classes=3, image_size_px=64)) is torchvision.models.ResNet
    named, prefixed = (build_on_meta(f"{prefix}resnet10t", num_classes=3, image_size_px=64) for prefix in ("", "timm/"))
    assert type(named) is type(prefixed)
    check_architecture("tf_efficientnet_lite0.in1k")


def test_timm_drops_as_much_before_its_head_as_is_asked_for() -> None:
    assert build("timm/resnet10t", num_classes=3, image_size_px=32, dropout=0.5).drop_rate == 0.5
    vit = build("vit_tiny_patch16_224", num_classes=3, image_size_px=32, dropout=0.5)
    assert [module.p for name, module in vit.named_modules() if name == "head_drop"] == [0.5]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("resnet19", "did you mean resnet1"), ("lenet", "did you mean lenet5?"), ("mobilenetv3small", "mobilenet_v3_sm")],
)
def test_an_unknown_architecture_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        build(name, num_classes=2, image_size_px=32)
    assert f"model.architecture: {name} is unknown" in str(refused.value)
    assert hint in str(refused.value)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "raft_large", "fcn_resnet50", "r3d_18", ""])
def test_a_model_of_another_task_is_unknown(name: str) -> None:
    with pytest.raises(SettingsError, match="is unknown"):
        check_architecture(name)


@pytest.mark.parametrize(("name", "side"), [("lenet5", 8), ("inception_v3", 16), ("vgg11", 16)])
def test_a_size_that_the_network_can_not_take_is_refused_before_training(name: str, side: int) -> None:
    model = build(name, num_classes=2, image_size_px=side)
    with pytest.raises(SettingsError, match=f"image_size_px: {name} doesn't take images of {side} px") as refused:
        check_image_size(model, name, side)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "side"), [("vit_b_16", 72), ("maxvit_t", 96)])
def test_a_size_that_is_no_multiple_of_the_patches_is_refused(name: str, side: int) -> None:
    with pytest.raises(SettingsError, match=f"image_size_px: {name} doesn't take images of {side} px"):
        build(name, num_classes=2, image_size_px=side)


@pytest.mark.parametrize(
    ("name", "side"), [("plain", 16), ("resnet18", 32), ("googlenet", 32), ("mobilenet_v3_small", 32)]
)
def test_the_check_of_the_size_leaves_the_network_as_it_is(name: str, side: int) -> None:
    model = build(name, num_classes=2, image_size_px=side).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_image_size(model, name, side)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state), "an unbroken and a resumed run would draw differently"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
