"""The model as it is trained, exported and stored: plain uint8 RGB in, logits out."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.data.images.preprocessing import PreprocessSettings
from components.models.architectures import build
from components.models.classifier import (
    ImageClassifier,
    ModelSpec,
    load_classifier,
    new_classifier,
    save_classifier,
)
from components.models.settings import ModelSettings
from components.models.stems import describe_stem, stem_for
from components.shared.errors import SettingsError
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import Task

PREPROCESS = PreprocessSettings(image_size_px=16, resize="crop", max_megapixels=100)


def task(*classes: str) -> Task:
    return SingleLabel.of([[name] for name in classes])


def classifier(architecture: str = "plain", classes: tuple[str, ...] = ("cat", "dog", "Ä/ö")) -> ImageClassifier:
    settings = ModelSettings(architecture=architecture, weights=None, freeze_backbone=False)
    mean, std = [0.5, 0.4, 0.3], [0.25, 0.2, 0.1]
    return new_classifier(settings, labels=task(*classes), preprocess=PREPROCESS, mean=mean, std=std)[0]


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


PretrainedWeights = Callable[[str, dict[str, torch.Tensor]], None]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretrainedWeights:
    """Puts weights where torch keeps what it has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)

    def put(name: str, state: dict[str, torch.Tensor]) -> None:
        import torchvision

        torch.save(state, folder / torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2])

    return put


def from_published(name: str, side: int) -> tuple[ImageClassifier, list[str]]:
    settings = ModelSettings(architecture=name, weights="imagenet", freeze_backbone=False)
    preprocess = PreprocessSettings(image_size_px=side, resize="crop", max_megapixels=100)
    return new_classifier(settings, labels=task("a", "b"), preprocess=preprocess, mean=[0.1] * 3, std=[0.1] * 3)


def test_published_weights_bring_their_own_normalization(publish: PretrainedWeights) -> None:
    publish("squeezenet1_1", build("squeezenet1_1", num_classes=1000, image_size_px=64).state_dict())
    model, said = from_published("squeezenet1_1", 64)
    assert (model.spec.mean, model.spec.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert said == ["weights from imagenet, with a new head"]


def test_googlenet_gets_the_normalization_that_torchvision_hides_in_it(publish: PretrainedWeights) -> None:
    publish("googlenet", build("googlenet", num_classes=1000, image_size_px=64).state_dict())
    model, _ = from_published("googlenet", 64)
    assert (model.spec.mean, model.spec.std) == ([0.5] * 3, [0.5] * 3)


def test_published_weights_keep_their_first_kernel_on_small_images(publish: PretrainedWeights, tmp_path: Path) -> None:
    source = build("resnet18", num_classes=1000, image_size_px=224)
    publish("resnet18", source.state_dict())
    model, said = from_published("resnet18", 32)
    assert torch.equal(model.net.conv1.weight, source.conv1.weight)  # type: ignore[arg-type, union-attr]
    assert model.net.conv1(torch.zeros(1, 3, 32, 32)).shape[-1] == 32  # type: ignore[operator]
    assert said[0].startswith("small-image stem for 32 px")
    assert "own first kernel kept" in said[0]
    save_classifier(model, tmp_path / "model")
    again = load_classifier(tmp_path / "model")
    squares = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(again(squares), model.eval()(squares))


@pytest.mark.parametrize(
    ("name", "with_weights", "keeps"),
    [
        ("vgg11", False, True),
        ("maxvit_t", False, True),
        ("timm/resnet18", True, True),
        ("vit_b_16", True, True),
        ("vit_b_16", False, False),
        ("plain", False, False),
    ],
)
def test_the_note_says_that_a_stem_stays_as_it_is_for_small_images(name: str, with_weights: bool, keeps: bool) -> None:
    note = describe_stem(name, stem_for(name, 32, with_weights=with_weights), 32)
    assert (note == f"{name} keeps its own stem, also for 32 px") == keeps


def from_file(file: Path, name: str, side: int, compound: float | None = None) -> tuple[ImageClassifier, list[str]]:
    settings = ModelSettings(architecture=name, compound=compound, weights=str(file), freeze_backbone=False)
    preprocess = PreprocessSettings(image_size_px=side, resize="crop", max_megapixels=100)
    return new_classifier(settings, labels=task("a", "b"), preprocess=preprocess, mean=[0.1] * 3, std=[0.1] * 3)


def test_a_stored_model_as_weights_brings_normalization_and_stem(tmp_path: Path) -> None:
    source = classifier("resnet18")
    save_classifier(source, tmp_path / "model")
    model, said = from_file(tmp_path / "model" / "model.safetensors", "resnet18", 64)
    assert (model.spec.mean, model.spec.stem) == (source.spec.mean, "small")
    assert torch.equal(model.net.conv1.weight, source.net.conv1.weight)  # type: ignore[arg-type, union-attr]
    assert any("with a new head" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (
            SingleLabel.of([["bus"], ["car"]]),
            r"2 single-label classes, .* 2 single-label ones \(not in both: a, b, bus, car",
        ),
        (MultiLabel.of([["a"], ["b"]]), "2 single-label classes, and the images have 2 multi-label ones$"),
        (SingleLabel.of([["a"], ["b"]]), None),
    ],
    ids=["other names", "another kind", "the same"],
)
def test_a_head_of_other_labels_starts_afresh_though_its_shape_fits(
    labels: Task, note: str | None, tmp_path: Path
) -> None:
    source = classifier("lenet5", ("a", "b"))
    save_classifier(source, tmp_path / "model")
    weights = str(tmp_path / "model" / "model.safetensors")
    settings = ModelSettings(architecture="lenet5", weights=weights, freeze_backbone=False)
    model, said = new_classifier(settings, labels=labels, preprocess=PREPROCESS, mean=[0.1] * 3, std=[0.1] * 3)
    kept = torch.equal(model.net.classifier.weight, source.net.classifier.weight)  # type: ignore[arg-type, union-attr]
    assert kept == (note is None)
    assert re.search(note or r"weights from \S+$", said[-1])


def test_weights_without_a_record_of_their_normalization_take_that_of_the_data(tmp_path: Path) -> None:
    save_file(build("lenet5", num_classes=2, image_size_px=16).state_dict(), tmp_path / "w.safetensors")
    _, said = from_file(tmp_path / "w.safetensors", "lenet5", 16)
    assert any("has no record of its normalization: that of the current images" in one for one in said)


@pytest.mark.parametrize(("trained_at", "used_at", "stem"), [(32, 64, "small"), (64, 32, "dense"), (32, 32, "small")])
def test_the_stem_of_a_bare_file_is_recognized_by_its_first_kernel(
    trained_at: int, used_at: int, stem: str, tmp_path: Path
) -> None:
    source = build("resnet18", num_classes=2, image_size_px=trained_at)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model, _ = from_file(tmp_path / "w.safetensors", "resnet18", used_at)
    assert model.spec.stem == stem
    assert torch.equal(model.net.conv1.weight, source.conv1.weight)  # type: ignore[arg-type, union-attr]


def test_a_stored_model_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    save_classifier(classifier("lenet5"), tmp_path / "model")
    with pytest.raises(SettingsError, match=r"model\.safetensors holds lenet5, not efficientnet of compound -2"):
        from_file(tmp_path / "model" / "model.safetensors", "efficientnet", 16, compound=-2.0)


def test_a_compound_network_says_the_size_that_goes_with_it(tmp_path: Path) -> None:
    settings = ModelSettings(architecture="efficientnet", compound=-4.0, weights=None, freeze_backbone=False)
    model, said = new_classifier(settings, labels=task("a"), preprocess=PREPROCESS, mean=[0.5] * 3, std=[0.25] * 3)
    assert said[1] == (
        "efficientnet with depth ×0.48 and width ×0.68; 128 px go with it, and preprocess.image_size_px is 16 "
        "(auto follows it)"
    )
    save_classifier(model, tmp_path / "model")
    assert load_classifier(tmp_path / "model").spec.compound == -4.0


@pytest.mark.parametrize(
    ("architecture", "compound", "sentence"),
    [
        ("plain", 1.0, "should be without compound, which the architecture efficientnet alone has; set it to null"),
        ("efficientnet", None, "should be given a compound, which the architecture efficientnet needs; set it to 0"),
    ],
)
def test_a_coefficient_belongs_to_efficientnet_alone(architecture: str, compound: float | None, sentence: str) -> None:
    section = {"architecture": architecture, "compound": compound, "weights": None, "freeze_backbone": False}
    with pytest.raises(SettingsError, match=f"^params.yaml: model: {sentence}"):
        ModelSettings.from_section("model", section)
