"""Features are what the head's last layer is given, whatever the architecture."""

import pytest
import torch
from torch import nn

from components.data.images.preprocessing import PreprocessSettings
from components.models.classifier import ImageClassifier, ModelSpec
from components.models.features import features, last_layer
from components.task.single_label import SingleLabel


def classifier(name: str, side: int) -> ImageClassifier:
    torch.manual_seed(0)
    spec = ModelSpec(
        architecture=name,
        labels=SingleLabel.of(["a", "b", "c"]),
        preprocess=PreprocessSettings(image_size_px=side, resize="crop", max_megapixels=10),
        mean=[0.5] * 3,
        std=[0.25] * 3,
    )
    return ImageClassifier(spec)


def images(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "side", "width"),
    [
        ("plain", 16, 128),
        ("resnet18", 32, 512),
        ("mobilenet_v3_small", 32, 1024),
        ("densenet121", 32, 1024),
        ("convnext_tiny", 32, 768),
        ("regnet_x_400mf", 32, 400),
        ("mnasnet0_5", 32, 1280),
        ("googlenet", 64, 1024),
        ("swin_t", 32, 768),
        ("vit_b_16", 32, 768),
    ],
)
def test_the_last_layer_turns_features_into_logits(name: str, side: int, width: int) -> None:
    model = classifier(name, side).eval()
    found = features(model, images(side))
    assert found.shape == (2, width)
    with torch.inference_mode():
        assert torch.allclose(last_layer(model.net)(found), model(images(side)), atol=1e-4)


def test_the_map_of_a_convolutional_head_is_averaged() -> None:
    model = classifier("squeezenet1_1", 64)
    assert isinstance(last_layer(model.net), nn.Conv2d)
    assert features(model, images(64)).shape == (2, 512)


def test_features_are_those_of_evaluation_and_leave_the_mode_as_it_was() -> None:
    model = classifier("plain", 16).train()
    model.net.features[0].eval()  # type: ignore[index, operator, union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = features(model, images(16)), features(model, images(16))
    assert model.training
    assert not model.net.features[0].training  # type: ignore[index, union-attr]
    assert torch.equal(first, second), "dropout is not drawn"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
