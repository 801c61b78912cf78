"""Fine-tuning with int8 simulated: a network that int8 spoils learns to bear it, the same each time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.data.packed.calibration_images import calibration_images
from components.data.packed.loaders import PackedSplit, open_split
from components.export.onnx_export import export_onnx
from components.export.quantization import U8S8, U8S8_REDUCED, Quantizer, Recipe
from components.models.classifier import ImageClassifier, load_classifier, save_classifier
from components.serving.onnx_classifier import ModelCard, OnnxClassifier
from components.shared.processor import this_processor
from components.training.fit import EpochReport, fit
from components.training.quantization_aware import FakeQuantizedClassifier, qat_settings
from components.training.settings import FakeQuantization, QatSettings, TrainingJob

MakeJob = Callable[..., TrainingJob]
CALIBRATION = 16
REDUCED = FakeQuantization(activations="unsigned", weight_bits=7, calibration_images=CALIBRATION)
OUTLIER = 200.0
"""Of the spoiled weights, times the largest other one: 7 bits leave the others nothing but zero."""


class Killed(Exception):
    pass


def ignore_epoch(_: EpochReport) -> None:
    pass


@dataclass(frozen=True)
class Spoiled:
    folder: Path
    model: ImageClassifier
    split: PackedSplit
    expected_NT: NDArray[np.float32]
    """What it says in float."""


@pytest.fixture(scope="module")
def spoiled(make_job: MakeJob, packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Spoiled:
    """A trained net whose last convolution has huge weights for a channel that never has a value.

    They ruin three out of four of its outputs in int8.
    """
    folder = tmp_path_factory.mktemp("spoiled")
    train = {"epochs": 2, "monitor": "loss", "augment": False}
    job = make_job(folder, model={"architecture": "plain"}, train=train)
    model = load_classifier(fit(job, on_epoch=ignore_epoch).model)
    norm, convolution = (model.net.get_submodule(f"features.block3.{place}") for place in (1, 3))
    with torch.no_grad():
        norm.weight[0], norm.bias[0] = 0.0, -1.0
        huge = OUTLIER * convolution.weight[:, 1:].abs().max()
        convolution.weight[:, 0] = torch.where(torch.arange(len(convolution.weight))[:, None, None] % 4 > 0, huge, 0.0)
    save_classifier(model, folder / "spoiled")
    split = open_split(packed, "train")
    return Spoiled(folder / "spoiled", model, split, logits(model, split))


def logits(model: ImageClassifier, split: PackedSplit) -> NDArray[np.float32]:
    with torch.no_grad():
        answer: NDArray[np.float32] = model(torch.from_numpy(pixels(split))).numpy()
    return answer


def pixels(split: PackedSplit) -> NDArray[np.uint8]:
    return np.array(split.pixels_NHWC[np.arange(len(split))])


def int8_logits(model: ImageClassifier, split: PackedSplit, folder: Path, recipe: Recipe) -> NDArray[np.float32]:
    """Of the file itself."""
    spec = model.spec
    card = ModelCard(spec.architecture, spec.labels, spec.preprocess, format="fp32", data_version="d", run_id="r")
    export_onnx(model, folder / "fp32.onnx", card=card)
    images = calibration_images(split, CALIBRATION)
    with Quantizer(folder / "fp32.onnx", calibration=images, card=card) as quantizer:
        quantizer.write(recipe, folder / "int8.onnx")
    return OnnxClassifier(folder / "int8.onnx").logits(pixels(split))


def distance(spoiled: Spoiled, logits_NT: NDArray[np.float32], other_NT: NDArray[np.float32] | None = None) -> float:
    """Between the probabilities and those in float, or others; of three classes at most 0.8."""
    others = (logits_NT, spoiled.expected_NT if other_NT is None else other_NT)
    left, right = (spoiled.model.spec.labels.probabilities(one, temperature=1.0) for one in others)
    return float(np.sqrt(np.mean((left - right) ** 2)))


def aware_job(make_job: MakeJob, output: Path, start: Path, rounding: FakeQuantization | None) -> TrainingJob:
    """Learns what the model itself says in float, and nothing else."""
    job = make_job(output, start_from=start, train={"augment": False, "teacher_weight": 1.0, "batch_size": 8})
    return job.model_copy(
        update={
            "step": "qat",
            "teacher": str(start),
            "train": qat_settings(job.train),
            "qat": QatSettings(epochs=3, learning_rate=0.002),
            "rounding": rounding,
        }
    )


EXACT = [recipe for recipe in (U8S8, U8S8_REDUCED) if not recipe.saturates(this_processor())]
"""Where sums of full 8-bit products overflow, the file does something else, and is never fine-tuned for."""


@pytest.mark.parametrize("recipe", EXACT, ids=lambda recipe: recipe.name)
def test_what_is_simulated_is_what_the_file_does(spoiled: Spoiled, tmp_path: Path, recipe: Recipe) -> None:
    bits = 7 if recipe.reduce_range else 8
    rounding = FakeQuantization(activations=recipe.activations, weight_bits=bits, calibration_images=CALIBRATION)
    simulated = logits(FakeQuantizedClassifier(spoiled.model, rounding, spoiled.split), spoiled.split)
    real = int8_logits(spoiled.model, spoiled.split, tmp_path, recipe)
    assert distance(spoiled, simulated, real) < 0.2 * distance(spoiled, real)


@pytest.fixture(scope="module")
def learnt(spoiled: Spoiled, make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = aware_job(make_job, tmp_path_factory.mktemp("qat"), spoiled.folder, REDUCED)
    return fit(job, on_epoch=ignore_epoch).model


def test_quantization_aware_training_rescues_a_network_that_int8_spoils(
    spoiled: Spoiled, learnt: Path, tmp_path: Path
) -> None:
    static = distance(spoiled, int8_logits(spoiled.model, spoiled.split, tmp_path, U8S8_REDUCED))
    qat = distance(spoiled, int8_logits(load_classifier(learnt), spoiled.split, tmp_path, U8S8_REDUCED))
    assert static > 0.1
    assert qat < 0.5 * static


def test_without_the_rounding_nothing_is_learnt(spoiled: Spoiled, make_job: MakeJob, tmp_path: Path) -> None:
    job = aware_job(make_job, tmp_path / "float", spoiled.folder, None)
    unaware = load_classifier(fit(job, on_epoch=ignore_epoch).model)
    rounded = [
        logits(FakeQuantizedClassifier(one, REDUCED, spoiled.split), spoiled.split) for one in (spoiled.model, unaware)
    ]
    static, after = (distance(spoiled, one) for one in rounded)
    assert after > 0.8 * static


def test_killed_within_an_epoch_it_resumes_to_the_same_weights(
    spoiled: Spoiled, learnt: Path, make_job: MakeJob, tmp_path: Path
) -> None:
    """Ranges are computed again from the weights at the start, not from those that had been learnt."""
    job = aware_job(make_job, tmp_path / "killed", spoiled.folder, REDUCED)
    job = job.model_copy(update={"train": job.train.model_copy(update={"checkpoint_minutes": 1e-9})})

    def kill(done: int, total: int) -> None:
        if done == total // 2:
            raise Killed

    with pytest.raises(Killed):
        fit(job, on_epoch=ignore_epoch, on_step=kill)
    steps: list[int] = []
    again = fit(job, on_epoch=ignore_epoch, on_step=lambda done, total: steps.append(done)).model
    assert steps[0] > 1
    assert (again / "model.safetensors").read_bytes() == (learnt / "model.safetensors").read_bytes()


def test_it_learns_the_same_each_time(spoiled: Spoiled, learnt: Path, make_job: MakeJob, tmp_path: Path) -> None:
    again = fit(aware_job(make_job, tmp_path / "again", spoiled.folder, REDUCED), on_epoch=ignore_epoch).model
    names = ("model.safetensors", "model.json")
    assert [(again / name).read_bytes() for name in names] == [(learnt / name).read_bytes() for name in names]
