"""Settings of `train` and `finetune` beside the usual ones: each learns, and resumes where it was interrupted."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from components.data.packed.loaders import open_split
from components.models.classifier import load_classifier
from components.shared.files import read_json, write_json
from components.task.hierarchy import Hierarchy
from components.training.fit import fit
from components.training.settings import TrainingJob
from components.training.weight_averaging import average

MakeJob = Callable[..., TrainingJob]
WAYS: dict[str, dict[str, Any]] = {
    "steps": {
        "train": {
            "schedule": "step",
            "optimizer": "adam",
            "loss": "binary_cross_entropy",
            "class_weights": {"left": 2.0},
        }
    },
    "one cycle": {"train": {"schedule": "one_cycle", "precision": "bf16"}},
    "attention": {"model": {"architecture": "plain", "pooling": "attention"}, "train": {"learning_rate": 0.02}},
}
LAST_RATES = {"steps": 0.01, "one cycle": 0.01, "attention": 0.1}
"""At most so much of the peak is left at the end."""


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_train_learns(make_job: MakeJob, tmp_path: Path, way: str) -> None:
    sections = WAYS[way] | {"train": {"epochs": 6, "learning_rate": 0.005} | WAYS[way]["train"]}
    job = make_job(tmp_path, **sections)
    result = fit(job, on_epoch=lambda _: None)
    assert result.history[-1].train_loss < 0.9 * result.history[0].train_loss
    assert result.history[-1].learning_rate <= 1.01 * LAST_RATES[way] * float(job.learning_rate)
    if way == "attention":
        looking = load_classifier(result.model).attention_map(torch.zeros(2, 16, 16, 3))
        assert torch.allclose(looking.sum(dim=(1, 2)), torch.ones(2))
    if way == "one cycle":
        assert read_json(tmp_path / "plan.json")["precision"] == "bf16"


@pytest.fixture(scope="module")
def trained(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = make_job(tmp_path_factory.mktemp("trained"), model={"architecture": "plain"}, train={"epochs": 1})
    return fit(job, on_epoch=lambda _: None).model


class Cut(Exception):
    pass


@pytest.mark.parametrize("way", ["unfreezing", "teacher"])
def test_a_transfer_that_is_cut_off_ends_with_the_same_weights(
    make_job: MakeJob, trained: Path, tmp_path: Path, way: str
) -> None:
    def cut(done: int, total: int) -> None:
        if done == total // 2 + 1:
            raise Cut

    def job(name: str) -> TrainingJob:
        train = {"epochs": 2, "checkpoint_minutes": 1e-9, "mixup": 0.2}
        if way == "teacher":
            return make_job(tmp_path / name, train=train).model_copy(update={"teacher": str(trained)})
        tuned = {"epochs": 3, "unfreeze_every_n_epochs": 1}
        return make_job(tmp_path / name, step="finetune", start_from=trained, train=train, finetune=tuned)

    whole = fit(job("whole"), on_epoch=lambda _: None)
    with pytest.raises(Cut):
        fit(job("cut"), on_epoch=lambda _: None, on_step=cut)
    resumed = fit(job("cut"), on_epoch=lambda _: None)
    assert [one.train_loss for one in resumed.history] == [one.train_loss for one in whole.history]
    others = load_file(whole.model / "model.safetensors")
    for name, value in load_file(resumed.model / "model.safetensors").items():
        assert torch.equal(value, others[name]), name


def test_the_scores_of_a_training_are_those_of_its_soup(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of all checkpoints, so that it is none of them.
    monkeypatch.setattr("components.training.fit.greedy_soup", lambda states, score: (average(states), [0, 1]))
    job = make_job(tmp_path, train={"epochs": 2, "model_soup_size": 2})
    result, split = fit(job, on_epoch=lambda _: None), open_split(Path(job.data), "val")
    with torch.no_grad():
        logits_BT = load_classifier(result.model)(torch.from_numpy(np.array(split.pixels_NHWC[:])))
    loss = torch.nn.functional.cross_entropy(logits_BT, torch.from_numpy(split.target))
    assert result.scores["val_loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert result.scores["val_loss"] not in [report.val_loss for report in result.history]


def test_levels_weigh_as_the_settings_say(make_job: MakeJob, packed: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(packed, tmp_path / "data"))
    paths = {"left": ["side", "left"], "right": ["side", "right"], "top": ["above", "top"]}
    task = Hierarchy.of(paths.values(), ["where", "exactly"])
    write_json(data / "dataset.json", read_json(data / "dataset.json") | {"labels": task.model_dump()})
    index = pq.read_table(data / "index.parquet")
    labels = pa.array([paths[label] for label in index["label"].to_pylist()], index.schema.field("labels").type)
    pq.write_table(index.set_column(index.schema.get_field_index("labels"), "labels", labels), data / "index.parquet")
    losses = {}
    for weights in ((1.0, 1.0), (1.0, 0.5), (0.0, 1.0)):
        job = make_job(tmp_path / str(weights), model={"level_weights": list(weights)}, train={"epochs": 1})
        losses[weights] = fit(job.model_copy(update={"data": str(data)}), on_epoch=lambda _: None).history[0].train_loss
    assert losses[1.0, 0.5] < losses[1.0, 1.0]
    assert losses[0.0, 1.0] < losses[1.0, 1.0]
