"""Where a model looks."""

import numpy as np
import pytest
import torch
from torchvision.models import VisionTransformer

from components.data.images.preprocessing import PreprocessSettings
from components.evaluation.saliency import attention_map, grad_cam, overlay
from components.models.classifier import ImageClassifier, ModelSpec
from components.models.heads import Pooling
from components.task.single_label import SingleLabel


def untrained(*, attends: bool = False, pooling: Pooling = "average") -> ImageClassifier:
    torch.manual_seed(0)
    spec = ModelSpec(
        architecture="plain",
        labels=SingleLabel(classes=list("abc")),
        preprocess=PreprocessSettings(image_size_px=32, resize="crop", max_megapixels=100.0),
        mean=[0.5] * 3,
        std=[0.25] * 3,
        pooling=pooling,
    )
    model = ImageClassifier(spec)
    if attends:
        model.net = VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3
        )
    # Some heads start at zero, where nothing speaks for any class.
    for parameter in model.net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("attends", [False, True])
def test_a_map_for_each_image_and_the_model_stays_as_it_was(attends: bool) -> None:
    model = untrained(attends=attends).train()
    model.requires_grad_(False)
    found = grad_cam(model, IMAGES, torch.tensor([0, 2]))
    assert found is not None
    assert found.shape == (2, 4, 4)
    assert found.min() >= 0
    assert found.max() == pytest.approx(1)
    assert model.training
    assert not model.net._forward_hooks


def test_grad_cam_is_the_weighted_map_of_the_paper() -> None:
    model = untrained().eval()
    kept: list[torch.Tensor] = []
    last = [module for module in model.net.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    hook = last.register_forward_hook(lambda *seen: kept.append(seen[2]))
    found = grad_cam(model, IMAGES, torch.tensor([1, 1]))
    hook.remove()
    assert found is not None
    assert kept[0].shape[-1] >= found.shape[-1]
    other = grad_cam(model, IMAGES, torch.tensor([0, 0]))
    assert other is not None
    assert not np.allclose(found, other)
    assert np.allclose(found, grad_cam(model, IMAGES, torch.tensor([1, 1])))


def test_a_bright_spot_that_decides_is_where_the_map_is_warm() -> None:
    class Spot(torch.nn.Module):
        """Answers by the brightest of 8 × 8 places."""

        def __init__(self) -> None:
            super().__init__()
            self.pool = torch.nn.AvgPool2d(4)
            self.top = torch.nn.AdaptiveMaxPool2d(1)

        def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
            top_BC = self.top(self.pool(images_BCHW)).flatten(1)
            return torch.stack([-top_BC.sum(1), top_BC.sum(1), 0 * top_BC.sum(1)], dim=1)

    model = untrained()
    model.net = Spot()
    dark = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    dark[:, 20:24, 8:12] = 255
    found = grad_cam(model, dark, torch.tensor([1]))
    assert found is not None
    assert np.unravel_index(found[0].argmax(), (8, 8)) == (5, 2)


def test_only_a_class_token_has_an_attention_map() -> None:
    assert attention_map(untrained(), IMAGES) is None
    found = attention_map(untrained(attends=True), IMAGES)
    assert found is not None
    assert found.shape == (2, 4, 4)
    assert found.max() == 1


def test_timms_transformers_have_maps_of_their_own_shape() -> None:
    timm = pytest.importorskip("timm")
    model = untrained()
    model.net = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=12, num_heads=3, num_classes=3
    )
    expected: list[torch.Tensor] = []
    attention = model.net.blocks[-1].attn
    attention.q_norm.register_forward_hook(lambda *seen: expected.append(seen[2]))
    attention.k_norm.register_forward_hook(lambda *seen: expected.append(seen[2]))
    found = attention_map(model, IMAGES)
    assert found is not None
    query_BHLE, key_BHLE = expected
    weights_BHLL = (query_BHLE * query_BHLE.shape[-1] ** -0.5 @ key_BHLE.transpose(-2, -1)).softmax(dim=-1)
    class_BHW = weights_BHLL.mean(dim=1)[:, 0, 1:].reshape(2, 4, 4).detach().numpy()
    assert np.allclose(found, class_BHW / class_BHW.max(axis=(1, 2), keepdims=True), atol=1e-5)
    assert attention.fused_attn, "the model stays as it was"


def test_maps_with_their_channels_last_are_recognized_by_their_shape() -> None:
    timm = pytest.importorskip("timm")
    model = untrained()
    model.net = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, depths=(1, 1), embed_dim=12, num_heads=(1, 2),
        num_classes=3,
    )  # fmt: skip
    found = grad_cam(model, IMAGES, torch.tensor([0, 2]))
    assert found is not None
    assert found.shape == (2, 4, 4)
    assert attention_map(model, IMAGES) is None, "its attention is of windows"


def test_pooling_by_attention_shows_its_own_weights() -> None:
    model = untrained(pooling="attention").eval()
    found = attention_map(model, IMAGES)
    weights_BHW = model.attention_map(IMAGES).detach().numpy()
    assert found is not None
    assert np.allclose(found, weights_BHW / weights_BHW.max(axis=(1, 2), keepdims=True), atol=1e-5)


def test_an_overlay_has_the_size_of_the_image_and_warms_the_spot() -> None:
    image = np.full((16, 24, 3), 100, np.uint8)
    spot = np.zeros((4, 4), np.float32)
    spot[0, 0] = 1
    mixed = overlay(image, spot)
    assert mixed.shape == image.shape
    assert mixed[0, 0, 0] > mixed[15, 23, 0] + 50
