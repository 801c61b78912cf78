"""The model as it is trained, exported and stored: plain uint8 RGB in, logits out."""

import json
from pathlib import Path

import pytest
import torch

from components.data.preprocessing import PreprocessSettings
from components.errors import SettingsError
from components.labels import LabelSpace
from components.models.classifier import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageClassifier,
    ModelSpec,
    load_classifier,
    new_classifier,
    save_classifier,
)
from components.models.settings import ModelSettings

PREPROCESS = PreprocessSettings(image_size_px=16, resize="crop", max_megapixels=100)


def space(*classes: str) -> LabelSpace:
    return LabelSpace.of("single", [[name] for name in classes])


def classifier(architecture: str = "plain", classes: tuple[str, ...] = ("cat", "dog", "Ä/ö")) -> ImageClassifier:
    settings = ModelSettings(architecture=architecture, weights=None, freeze_backbone=False)
    mean, std = [0.5, 0.4, 0.3], [0.25, 0.2, 0.1]
    return new_classifier(settings, labels=space(*classes), preprocess=PREPROCESS, mean=mean, std=std)[0]


def images(count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_normalization_is_part_of_the_model() -> None:
    model = classifier().eval()
    batch = images()
    normalized = (batch.permute(0, 3, 1, 2).float() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / (
        torch.tensor([0.25, 0.2, 0.1]).view(1, 3, 1, 1)
    )
    with torch.inference_mode():
        assert torch.allclose(model(batch), model.net(normalized), atol=1e-4)


def test_a_stored_model_answers_the_same(tmp_path: Path) -> None:
    model = classifier()
    model.train()(images(8))  # gives the batch norms statistics of their own
    model.eval()
    save_classifier(model, tmp_path / "model")
    loaded = load_classifier(tmp_path / "model")
    assert loaded.spec == model.spec
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(images()), model(images()))


def test_a_stored_model_is_safetensors_and_json_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    model = classifier("lenet5")
    for name in ("one", "two"):
        save_classifier(model, tmp_path / name)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["model.json", "model.safetensors"]
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_spec_with_unknown_names_is_refused() -> None:
    record = classifier().spec.model_dump()
    assert ModelSpec.from_section("model.json", json.loads(json.dumps(record))) == classifier().spec
    with pytest.raises(SettingsError, match="meen: unknown; did you mean mean"):
        ModelSpec.from_section("model.json", record | {"meen": [0.0]})


def test_published_weights_bring_their_own_normalization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    from components.models.architectures import build

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints"
    file.mkdir(parents=True)
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    torch.save(build("squeezenet1_1", num_classes=1000, image_size_px=64).state_dict(), file / url.rpartition("/")[2])
    large = PreprocessSettings(image_size_px=64, resize="crop", max_megapixels=100)
    settings = ModelSettings(architecture="squeezenet1_1", weights="imagenet", freeze_backbone=False)
    model, loaded = new_classifier(settings, labels=space("a", "b"), preprocess=large, mean=[0.1] * 3, std=[0.1] * 3)
    assert loaded is not None
    assert loaded.new_head
    assert (model.spec.mean, model.spec.std) == (IMAGENET_MEAN, IMAGENET_STD)
