"""Every architecture by name."""

import pytest
import torch

from components.errors import SettingsError
from components.models.architectures import (
    build,
    check_architecture,
    check_image_size,
    small_stem,
)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("plain", 16),
        ("plain", 28),
        ("lenet5", 16),
        ("lenet5", 14),
        ("resnet18", 32),
        ("resnet18", 64),
        ("mobilenet_v3_small", 32),
        ("googlenet", 64),
        ("shufflenet_v2_x0_5", 32),
        ("squeezenet1_1", 64),
        ("efficientnet_b0", 32),
        ("vit_b_16", 32),
    ],
)
def test_an_architecture_gives_logits_for_the_classes(name: str, side: int) -> None:
    model = build(name, num_classes=5, image_size_px=side).eval()
    with torch.inference_mode():
        logits = model(torch.zeros(2, 3, side, side))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


def test_a_residual_net_keeps_the_resolution_of_small_images() -> None:
    assert small_stem("resnet18", 32)
    assert not small_stem("resnet18", 64)
    assert not small_stem("mobilenet_v3_small", 32)
    small, large = (build("resnet18", num_classes=2, image_size_px=side) for side in (32, 64))
    assert small.conv1(torch.zeros(1, 3, 32, 32)).shape[-1] == 32
    assert large.conv1(torch.zeros(1, 3, 64, 64)).shape[-1] == 32


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


@pytest.mark.parametrize(
    ("name", "side"), [("lenet5", 8), ("alexnet", 32), ("inception_v3", 96), ("maxvit_t", 32), ("densenet121", 16)]
)
def test_a_size_that_the_network_can_not_take_is_refused_before_training(name: str, side: int) -> None:
    model = build(name, num_classes=2, image_size_px=side)
    with pytest.raises(SettingsError, match=f"image_size_px: {name} doesn't take images of {side} px") as refused:
        check_image_size(model, name, side)
    assert "\n" not in str(refused.value)


def test_a_size_that_is_no_multiple_of_the_patches_is_refused() -> None:
    with pytest.raises(SettingsError, match="image_size_px: vit_b_16 doesn't take images of 40 px"):
        build("vit_b_16", num_classes=2, image_size_px=40)


@pytest.mark.parametrize(("name", "side"), [("plain", 16), ("resnet18", 32), ("googlenet", 32), ("mobilenet_v3_small", 32)])
def test_the_check_of_the_size_leaves_the_network_as_it_is(name: str, side: int) -> None:
    model = build(name, num_classes=2, image_size_px=side).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_image_size(model, name, side)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state), "an unbroken and a resumed run would draw differently"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
