"""Where training ends early, restarts, or doesn't start: each with a message."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from logged import logged
from safetensors.torch import load_file, save_file

from components.models.classifier import ImageClassifier
from components.models.small_networks import LeNet5
from components.shared.errors import DataError, SettingsError
from components.shared.files import read_json
from components.training.fit import EpochReport, FitResult, fit
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]
FirstImages = Callable[[int], Path]


def ignore_epoch(_: EpochReport) -> None:
    pass


def fitted(job: TrainingJob) -> tuple[FitResult, list[str]]:
    with logged() as messages:
        return fit(job, on_epoch=ignore_epoch), messages


OUT_OF_MEMORY = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "windows": RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to"),
    "linux": RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
}


@pytest.fixture(params=["gpu"])
def memory_for_eight(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that holds the activations of eight images in training."""
    forward = ImageClassifier.forward

    def limited(self: ImageClassifier, images_BHWC: torch.Tensor) -> torch.Tensor:
        if self.training and len(images_BHWC) > 8:
            raise OUT_OF_MEMORY[request.param]
        return forward(self, images_BHWC)

    monkeypatch.setattr(ImageClassifier, "forward", limited)


FIXED = {"precision": "fp32", "channels_last": "off", "compile": "off"}


@pytest.mark.parametrize("memory_for_eight", list(OUT_OF_MEMORY), indirect=True)
@pytest.mark.parametrize(
    "settings", [FIXED, {}, FIXED | {"learning_rate": "range_test"}], ids=["step", "measured", "rate"]
)
def test_too_little_memory_names_the_settings_to_change(
    memory_for_eight: None, settings: dict[str, Any], make_job: MakeJob, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"lower train\.batch_size \(now 16\), or set train\.halve_batch_on_oom"):
        fitted(make_job(tmp_path, train=settings))


def test_a_batch_is_halved_before_the_first_epoch_where_measuring_shows_that_it_does_not_fit(
    memory_for_eight: None, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(tmp_path, train={"halve_batch_on_oom": True, "learning_rate": "range_test", "epochs": 1})
    _, said = fitted(job)
    assert [sentence for sentence in said if "doesn't fit" in sentence] == [
        "a batch of 16 images doesn't fit into memory: restart with 8, accumulated twice as often"
    ]
    assert read_json(tmp_path / "plan.json")["halvings"] == 1


def test_features_are_computed_of_no_more_images_at_a_time_than_fit(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classify = LeNet5.forward

    def limited(self: LeNet5, images_BCHW: torch.Tensor) -> torch.Tensor:
        if len(images_BCHW) > 8:
            raise OUT_OF_MEMORY["gpu"]
        return classify(self, images_BCHW)

    monkeypatch.setattr(LeNet5, "forward", limited)
    train = FIXED | {"augment": False, "halve_batch_on_oom": True, "epochs": 1}
    _, said = fitted(make_job(tmp_path / "job", model={"freeze_backbone": True}, train=train))
    assert said[0] == "a batch of 16 images doesn't fit into memory: restart with 8, accumulated twice as often"
    assert said[1].startswith("the head trains on cached features")


def test_validation_sees_no_more_images_at_a_time_than_training(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, most = ImageClassifier.forward, {True: 0, False: 0}

    def limited(self: ImageClassifier, images_BHWC: torch.Tensor) -> torch.Tensor:
        if len(images_BHWC) > 4:
            raise OUT_OF_MEMORY["gpu"]
        most[self.training] = max(most[self.training], len(images_BHWC))
        return forward(self, images_BHWC)

    monkeypatch.setattr(ImageClassifier, "forward", limited)
    fitted(make_job(tmp_path, train=FIXED | {"batch_size": 8, "halve_batch_on_oom": True, "epochs": 1}))
    assert most == {True: 4, False: 4}


def test_a_batch_that_does_not_fit_is_halved_and_accumulated_to_the_same_step(
    memory_for_eight: None, make_job: MakeJob, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    job = make_job(tmp_path, train=FIXED | {"batch_size": 32, "halve_batch_on_oom": True, "epochs": 1})
    with logged() as said:
        fit(job, on_epoch=ignore_epoch, on_step=lambda done, total: steps.append((done, total)))
    assert [sentence.partition(":")[0] for sentence in said[:2]] == [
        "a batch of 32 images doesn't fit into memory",
        "a batch of 16 images doesn't fit into memory",
    ]
    assert read_json(tmp_path / "plan.json")["halvings"] == 2
    # 63 images are two steps of 32, each gathered from four batches of 8.
    assert steps[-1] == (2, 2)
    assert len(steps) == 8


def test_a_time_limit_ends_training_with_the_best_model_until_then(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, train={"epochs": 50, "time_limit_minutes": 1e-4})
    result, said = fitted(job)
    assert len(result.history) < 50
    assert any("train.time_limit_minutes is 0.0001" in sentence for sentence in said)
    assert (result.model / "model.safetensors").exists()
    shutil.rmtree(result.model)
    assert len(fitted(job)[0].history) == len(result.history), "resumed, though its time is over"


def test_the_rate_is_found_stored_and_used_again_by_a_resumed_training(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, train={"learning_rate": "range_test", "epochs": 1})
    result, said = fitted(job)
    test = read_json(tmp_path / "rate.json")
    assert read_json(tmp_path / "plan.json")["learning_rate"] == test["found"]
    assert any(sentence.startswith(f"learning rate {test['found']:.2g}") for sentence in said)
    (tmp_path / "rate.json").unlink()
    assert fitted(job)[0].history == result.history
    assert not (tmp_path / "rate.json").exists()


def test_the_rate_grows_with_the_batch_if_so_set(make_job: MakeJob, tmp_path: Path) -> None:
    scaled = {
        "scale_learning_rate_with_batch": True,
        "learning_rate": 0.08,
        "gradient_accumulation_steps": 2,
        "epochs": 1,
    }
    fitted(make_job(tmp_path, train=scaled))
    assert read_json(tmp_path / "plan.json")["learning_rate"] == pytest.approx(0.08 * 32 / 256)


def test_weights_that_are_not_finite_are_refused(make_job: MakeJob, tmp_path: Path) -> None:
    result, _ = fitted(make_job(tmp_path / "good", train={"epochs": 1}))
    weights = load_file(result.model / "model.safetensors")
    weights["classifier.bias"][1] = float("nan")
    save_file(weights, tmp_path / "broken.safetensors")
    job = make_job(tmp_path / "job", model={"weights": str(tmp_path / "broken.safetensors")})
    with pytest.raises(
        SettingsError, match=r"broken\.safetensors holds numbers that aren't finite in classifier\.bias"
    ):
        fitted(job)


def test_a_class_weight_for_no_class_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train\.class_weights: lefd is no class of these images; did you mean le"):
        fitted(make_job(tmp_path, train={"class_weights": {"lefd": 2.0}}))


def test_a_first_side_that_the_model_does_not_take_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path, model={"architecture": "vit_b_16"}, train={"progressive_resizing": 0.5})
    with pytest.raises(
        SettingsError, match=r"train\.progressive_resizing: 0\.5 starts at 8 px, which vit_b_16 doesn't"
    ):
        fitted(job)


def test_an_empty_validation_split_is_refused(make_job: MakeJob, packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "data")
    index = pq.read_table(packed / "index.parquet")
    pq.write_table(index.filter(pc.not_equal(index["split"], "val")), tmp_path / "data" / "index.parquet")
    with pytest.raises(DataError, match=r"the val split holds no images; change split\.fractions or add images"):
        fitted(make_job(tmp_path / "job").model_copy(update={"data": str(tmp_path / "data")}))


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (1, r"^the train split holds 1 image, and training needs 2; change split\.fractions or add images$"),
        (0, r"^the train split holds no images; change split\.fractions or add images$"),
    ],
)
def test_a_training_split_without_images_to_learn_from_is_refused(
    make_job: MakeJob, first_images: FirstImages, tmp_path: Path, kept: int, sentence: str
) -> None:
    data = str(first_images(kept))
    with pytest.raises(DataError, match=sentence):
        fitted(make_job(tmp_path / "job").model_copy(update={"data": data}))


def test_each_process_needs_two_images(make_job: MakeJob, first_images: FirstImages, tmp_path: Path) -> None:
    data = str(first_images(3))
    job = make_job(tmp_path / "job", train={"devices": 2}).model_copy(update={"data": data})
    with pytest.raises(
        DataError, match=r"holds 3 images, and training on 2 devices needs 4; change split\.fractions or add images"
    ):
        fitted(job)
