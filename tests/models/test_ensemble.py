"""Several classifiers as one network, and as one file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from components.data.images.preprocessing import PreprocessSettings
from components.export.onnx_export import export_onnx
from components.models.classifier import ImageClassifier, ModelSpec, save_classifier
from components.models.ensemble import Ensemble, mean_logits, open_ensemble, open_model, save_ensemble
from components.models.features import features
from components.serving.onnx_classifier import ModelCard, OnnxClassifier
from components.shared.errors import SettingsError
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import Task

SINGLE = SingleLabel.of([["a"], ["b"], ["c"]])
MULTI = MultiLabel.of([["a"], ["b"], ["c"]])
TREE = Hierarchy.of([["x", "a"], ["x", "b"], ["y", "c"]], ["coarse", "fine"])


def member(architecture: str, seed: int, side: int = 16, task: Task = SINGLE) -> ImageClassifier:
    torch.manual_seed(seed)
    preprocess = PreprocessSettings(image_size_px=side, resize="crop", max_megapixels=10)
    spec = ModelSpec(
        architecture=architecture, labels=task, preprocess=preprocess, mean=[0.1 * seed] * 3, std=[0.25] * 3
    )
    return ImageClassifier(spec).eval()


@pytest.mark.parametrize("task", [SINGLE, MULTI], ids=lambda task: task.task)
def test_its_probabilities_are_the_mean_of_the_members(task: Task) -> None:
    logits_MBT = 8 * torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0))
    found = task.probabilities(mean_logits(logits_MBT, task).numpy())
    expected = np.mean([task.probabilities(logits.numpy()) for logits in logits_MBT], axis=0)
    assert found == pytest.approx(expected, abs=1e-5)


def test_each_level_of_a_hierarchy_is_averaged() -> None:
    logits_MBT = torch.randn(2, 4, TREE.num_logits, generator=torch.Generator().manual_seed(0))
    mean_BT = mean_logits(logits_MBT, TREE)
    for place in TREE.level_slices():
        expected = logits_MBT[..., place].softmax(-1).mean(0)
        assert torch.allclose(mean_BT[:, place].softmax(-1), expected, atol=1e-5)


def test_its_energy_is_the_mean_of_the_members() -> None:
    logits_MBT = 3 * torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = logits_MBT.logsumexp(dim=-1).mean(dim=0)
    assert torch.allclose(mean_logits(logits_MBT, SINGLE).logsumexp(dim=-1), expected, atol=1e-5)


def test_a_folder_of_members_is_opened_as_what_it_is(tmp_path: Path) -> None:
    for name, seed in (("b", 2), ("a", 1)):
        save_classifier(member("lenet5", seed), tmp_path / name)
    save_ensemble([tmp_path / "b", tmp_path / "a"], tmp_path / "both")
    images_BHWC = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        single, both = open_model(tmp_path / "a"), open_model(tmp_path / "both")
        assert torch.equal(single(images_BHWC), member("lenet5", 1)(images_BHWC))
        assert torch.equal(both(images_BHWC), open_ensemble([tmp_path / "b", tmp_path / "a"])(images_BHWC))
        side_by_side = torch.cat([features(member("lenet5", seed), images_BHWC) for seed in (2, 1)], dim=1)
        assert torch.equal(features(both, images_BHWC), side_by_side)


def test_one_file_holds_all_members(tmp_path: Path) -> None:
    members = [member("lenet5", 1), member("plain", 2)]
    for number, one in enumerate(members):
        save_classifier(one, tmp_path / str(number))
    ensemble = open_ensemble([tmp_path / "0", tmp_path / "1"])
    card = ModelCard(
        architecture="lenet5 + plain",
        labels=SINGLE,
        preprocess=ensemble.spec.preprocess,
        format="fp32",
        data_version="d" * 32,
        run_id="r" * 32,
    )
    export_onnx(ensemble, tmp_path / "onnx" / "model.onnx", card=card)
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model.onnx"]
    squares = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = torch.stack([one(torch.from_numpy(squares)).softmax(1) for one in members]).mean(0)
    served = OnnxClassifier(tmp_path / "onnx" / "model.onnx")
    assert SINGLE.probabilities(served.logits(squares)) == pytest.approx(expected.numpy(), abs=1e-4)


def test_members_that_differ_are_refused() -> None:
    with pytest.raises(SettingsError, match="at least two members, not 1"):
        Ensemble([member("lenet5", 1)])
    with pytest.raises(SettingsError, match="have the same preprocessing, but plain has others than lenet5"):
        Ensemble([member("lenet5", 1), member("plain", 2, side=32)])
    with pytest.raises(SettingsError, match="have the same labels"):
        Ensemble([member("lenet5", 1), member("lenet5", 2, task=MULTI)])
