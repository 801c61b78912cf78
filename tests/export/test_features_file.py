"""A network without its last layer, as a file that searches read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exported_model import Exported
from projects import new_project
from torch import nn

from components.data.images.embeddings import embed
from components.export.onnx_export import export_features
from components.models.architectures import build
from components.models.classifier import ImageClassifier
from components.models.features import features
from components.shared.errors import SettingsError
from flows.experiments.features import FeaturesFile, write_features

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("exported", ["plain"], indirect=True)
@pytest.mark.parametrize("architecture", ["plain", "squeezenet1_1"])
def test_the_file_says_what_the_last_layer_is_given(exported: Exported, tmp_path: Path, architecture: str) -> None:
    spec = exported.model.spec.model_copy(update={"architecture": architecture})
    spec = spec.model_copy(update={"preprocess": spec.preprocess.model_copy(update={"image_size_px": 32})})
    model = ImageClassifier(spec)
    images_BHWC = RANDOM.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    export_features(model, tmp_path / "features.onnx")
    found = embed(3, images_BHWC.__getitem__, model=tmp_path / "features.onnx", setting="labels.features")
    assert np.allclose(found, features(model, torch.from_numpy(images_BHWC)).numpy(), atol=1e-4)
    assert model(torch.from_numpy(images_BHWC)).shape == (3, 3), "the model keeps its last layer"


def test_weights_of_an_architecture_become_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(new_project(tmp_path / "project"))
    torch.manual_seed(0)
    network = build("lenet5", num_classes=7, image_size_px=32)
    torch.save(network.state_dict(), "lenet5.pth")
    out = tmp_path / "features.onnx"
    written = write_features("lenet5", weights="lenet5.pth", image_size_px=32, out=out)
    assert written == FeaturesFile(str(out), image_size_px=32, features=84)
    image_HWC = RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    network.classifier = nn.Identity()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal_HWC = (torch.from_numpy(image_HWC) / 255 - mean) / std
    expected = network.eval()(normal_HWC.permute(2, 0, 1)[None]).detach().numpy()
    assert np.allclose(embed(1, lambda _: image_HWC, model=out, setting="x"), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "weights", "out", "message"),
    [
        ("lenet5", None, "f.onnx", "untrained features say nothing; add --weights"),
        ("lenet6", "imagenet", "f.onnx", "did you mean lenet5"),
        ("lenet5", "imagenet", "f.pth", r"--out f.pth: should end in .onnx"),
    ],
)
def test_the_message_says_why_no_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, weights: str | None, out: str, message: str
) -> None:
    monkeypatch.chdir(new_project(tmp_path / "project"))
    with pytest.raises(SettingsError, match=message):
        write_features(model, weights=weights, image_size_px=None, out=Path(out))
    assert not Path(out).exists()
