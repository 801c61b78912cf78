"""What a model trained on the embedded digits must do: a minimum ability, invariances, and directions of change.

Small images and few epochs; the model is trained once for all of these tests.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from projects import REPOSITORY, validate_in

from components.data.packed.loaders import PackedSplit, open_split
from components.data.raw.ingest import write_raw
from components.data.sources import find
from components.evaluation.corruptions import corrupted
from components.evaluation.inference import logits_of
from components.evaluation.ood import noise_images
from components.models.classifier import ImageClassifier, load_classifier
from components.shared.progress import silent
from components.training.fit import fit
from components.training.settings import TrainingJob
from flows.project.params import override, read_params
from flows.stages.augment import augment
from flows.stages.split import split

SIDE = 16
SETTINGS = (f"preprocess.image_size_px={SIDE}", "train.epochs=5", "augment.copies=0", "train.batch_size=32")


@dataclass(frozen=True)
class Trained:
    model: ImageClassifier
    test: PackedSplit

    def probabilities(self, images_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        task = self.model.spec.labels
        found: NDArray[np.float32] = task.probabilities(logits_of(self.model, images_NHWC), temperature=1.0)
        return found

    def labels(self, images_NHWC: NDArray[np.uint8]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.probabilities(images_NHWC).argmax(axis=1)
        return found

    @property
    def images(self) -> NDArray[np.uint8]:
        return np.asarray(self.test.pixels_NHWC)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("digits")
    params_file = Path(shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml"))
    override(params_file, list(SETTINGS), check=lambda _: None)
    write_raw(find("digits"), folder / "raw", progress=silent)
    validate_in(folder, params_file)
    split(params_file, folder / "validated", folder / "split", silent)
    augment(params_file, folder / "raw", folder / "split", folder / "augmented", silent)
    params = read_params(params_file)
    sections = {name: getattr(params, name) for name in ("preprocess", "augment", "model", "train", "finetune")}
    paths = {"data": str(folder / "augmented"), "output": str(folder / "train"), "start_from": None}
    job = TrainingJob(step="train", **paths, **sections)
    return Trained(load_classifier(fit(job, on_epoch=lambda _: None).model), open_split(folder / "augmented", "test"))


def test_it_reads_nine_of_ten_digits(trained: Trained) -> None:
    assert (trained.labels(trained.images) == trained.test.target).mean() > 0.9


def test_every_class_is_found(trained: Trained) -> None:
    correct = trained.labels(trained.images) == trained.test.target
    recall = [correct[trained.test.target == label].mean() for label in np.unique(trained.test.target)]
    assert len(recall) == 10
    assert min(recall) > 0.6


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("axis", [1, 2], ids=["down", "right"])
def test_a_shift_by_one_pixel_changes_few_labels(trained: Trained, shift: int, axis: int) -> None:
    moved = np.roll(trained.images, shift, axis=axis)
    assert (trained.labels(moved) == trained.labels(trained.images)).mean() > 0.85


def test_a_little_more_light_changes_few_labels(trained: Trained) -> None:
    brighter = corrupted(trained.images, "brightness", 1, seed=7)
    assert (trained.labels(brighter) == trained.labels(trained.images)).mean() > 0.85


def test_the_order_and_the_size_of_a_batch_change_nothing(trained: Trained) -> None:
    images, order = trained.images, np.random.default_rng(7).permutation(len(trained.test))
    np.testing.assert_allclose(
        trained.probabilities(images[order]), trained.probabilities(images)[order], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        trained.probabilities(images[:1]), trained.probabilities(images)[:1], rtol=1e-3, atol=1e-4
    )


def test_it_is_less_confident_and_less_often_right_the_stronger_the_noise(trained: Trained) -> None:
    def confidence_and_accuracy(strength: int) -> tuple[float, float]:
        noisy = corrupted(trained.images, "noise", strength, seed=7)
        probability_NK = trained.probabilities(noisy)
        return float(probability_NK.max(axis=1).mean()), float(
            (probability_NK.argmax(axis=1) == trained.test.target).mean()
        )

    clean = trained.probabilities(trained.images).max(axis=1).mean()
    (mild_confidence, mild_accuracy), (strong_confidence, strong_accuracy) = map(confidence_and_accuracy, (1, 5))
    assert clean > strong_confidence
    assert mild_confidence > strong_confidence
    assert mild_accuracy > strong_accuracy


def test_noise_looks_less_like_the_training_data_than_digits(trained: Trained) -> None:
    task = trained.model.spec.labels
    digits = task.ood_score(logits_of(trained.model, trained.images))
    noise = task.ood_score(logits_of(trained.model, noise_images(100, SIDE, seed=7)))
    assert np.median(noise) > np.median(digits)
