"""Pooling by attention and dropout before the last layer, in every family that averages a map at its end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.data.images.preprocessing import PreprocessSettings
from components.models.architectures import build, build_on_meta
from components.models.attention_pooling import AttentionPool
from components.models.classifier import ImageClassifier, ModelSpec, load_classifier, save_classifier
from components.models.features import last_layer
from components.models.heads import attention_pool, configure_head
from components.models.layer_groups import freeze_backbone, layer_groups
from components.shared.errors import SettingsError
from components.task.single_label import SingleLabel

TRIED = ["plain", "mobilenet_v2", "densenet121", "regnet_y_400mf"]
SHAPED = ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "mnasnet0_5", "googlenet", "swin_t"]


def model(architecture: str, **changes: Any) -> ImageClassifier:
    torch.manual_seed(0)
    spec = ModelSpec(
        architecture=architecture,
        labels=SingleLabel.of(["a", "b", "c"]),
        preprocess=PreprocessSettings(image_size_px=64, resize="crop", max_megapixels=1),
        mean=[0.5] * 3,
        std=[0.25] * 3,
        **changes,
    )
    return ImageClassifier(spec).eval()


def images(count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def answer(one: ImageClassifier) -> torch.Tensor:
    """In training, for the features of an untrained net in evaluation fade to nothing."""
    torch.manual_seed(0)
    logits = one.train()(images())
    return logits[0] if isinstance(logits, tuple) else logits


@pytest.mark.parametrize("architecture", TRIED)
@torch.no_grad()
def test_attention_starts_as_the_mean_and_then_follows_its_query(architecture: str) -> None:
    plain, attentive = model(architecture, dropout=0.0), model(architecture, pooling="attention", dropout=0.0)
    pool = attention_pool(attentive.net)
    assert pool is not None
    attentive.net.load_state_dict(plain.net.state_dict(), strict=False)
    mean = answer(plain)
    assert torch.allclose(answer(attentive), mean, atol=1e-4)
    pool.query.normal_(std=20, generator=torch.Generator().manual_seed(2))
    assert not torch.allclose(answer(attentive), mean, atol=1e-2)
    looking = attentive.train().attention_map(images())
    assert looking.shape == (2, *looking.shape[1:])
    assert looking[0].numel() > 1
    assert torch.allclose(looking.sum(dim=(1, 2)), torch.ones(2))


@pytest.mark.parametrize("architecture", SHAPED)
def test_attention_takes_the_place_of_the_mean(architecture: str) -> None:
    network = build_on_meta(architecture, num_classes=3, image_size_px=64).eval()
    configure_head(network, architecture, pooling="attention", dropout=None)
    given: list[torch.Tensor] = []
    pool = attention_pool(network)
    assert pool is not None
    pool.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    assert network.to("meta")(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 3)
    assert given[0].ndim == 4
    assert given[0].shape[1] == len(pool.query)


def test_the_pooled_vector_is_the_weighed_mean_of_the_places() -> None:
    pool = AttentionPool(3)
    torch.nn.init.normal_(pool.query, generator=torch.Generator().manual_seed(0))
    map_BCHW = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    expected = (map_BCHW * pool.weights(map_BCHW)[:, None]).sum(dim=(2, 3))
    assert torch.allclose(pool(map_BCHW)[:, :, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("architecture", ["vit_b_32", "vgg11", "squeezenet1_1", "shufflenet_v2_x0_5", "lenet5"])
def test_networks_without_an_averaged_map_are_refused(architecture: str) -> None:
    with pytest.raises(SettingsError, match=rf"model\.pooling: {architecture} has no map .*; use average"):
        configure_head(
            build_on_meta(architecture, num_classes=2, image_size_px=64),
            architecture,
            pooling="attention",
            dropout=None,
        )


def test_a_model_without_attention_has_no_map_of_it() -> None:
    with pytest.raises(SettingsError, match=r"pools by average .* model\.pooling: attention"):
        model("plain").attention_map(images())


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121"])
def test_a_frozen_backbone_leaves_the_pooling_to_learn(architecture: str) -> None:
    network = model(architecture, pooling="attention").net
    freeze_backbone(network)
    learning = {name.rpartition(".")[0] for name, value in network.named_parameters() if value.requires_grad}
    assert learning == {group.name for group in layer_groups(network)[-2:]}
    assert len(learning) == 2


def test_a_stored_model_keeps_its_head(tmp_path: Path) -> None:
    attentive = model("plain", pooling="attention", dropout=0.5)
    torch.nn.init.normal_(attention_pool(attentive.net).query)  # type: ignore[union-attr]
    save_classifier(attentive, tmp_path / "model")
    loaded = load_classifier(tmp_path / "model")
    assert loaded.spec == attentive.spec
    assert torch.equal(loaded(images()), attentive(images()))
    assert torch.equal(loaded.attention_map(images()), attentive.attention_map(images()))


@pytest.mark.parametrize("architecture", ["resnet18", "googlenet", "lenet5"])
def test_dropout_drops_that_fraction_of_the_last_layers_input(architecture: str) -> None:
    network = model(architecture, dropout=0.75).net
    assert list(network.state_dict()) == list(build(architecture, num_classes=3, image_size_px=64).state_dict())
    layer = last_layer(network)
    torch.nn.init.eye_(layer.weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    network.eval()
    layer.train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    torch.manual_seed(0)
    with torch.no_grad():
        logits = network(images(1).permute(0, 3, 1, 2).float().repeat(80, 1, 1, 1) / 255)
    alive = logits[:, logits.abs().amax(dim=0) > 1e-9]
    assert alive.shape[1] >= 1
    assert (alive == 0).float().mean().item() == pytest.approx(0.75, abs=0.15)


def test_a_head_that_drops_already_drops_as_much_as_is_asked_for() -> None:
    network = build("efficientnet_b0", num_classes=3, image_size_px=64)
    configure_head(network, "efficientnet_b0", pooling="average", dropout=0.5)
    assert [module.p for module in network.classifier.modules() if isinstance(module, torch.nn.Dropout)] == [0.5]
    assert type(last_layer(network)) is torch.nn.Linear


def test_a_model_with_attention_is_exported_like_any_other(tmp_path: Path) -> None:
    from components.export.onnx_export import export_onnx
    from components.serving.onnx_classifier import ModelCard, OnnxClassifier

    attentive = model("plain", pooling="attention", dropout=0.3)
    torch.nn.init.normal_(attention_pool(attentive.net).query)  # type: ignore[union-attr]
    spec = attentive.spec
    card = ModelCard(
        architecture="plain",
        labels=spec.labels,
        preprocess=spec.preprocess,
        format="fp32",
        data_version="",
        run_id="",
    )
    export_onnx(attentive, tmp_path / "model.onnx", card=card)
    batch = images(3)
    with torch.no_grad():
        expected = attentive(batch).numpy()
    assert np.abs(OnnxClassifier(tmp_path / "model.onnx").logits(batch.numpy()) - expected).max() < 1e-3
