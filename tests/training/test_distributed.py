"""Two processes that train together learn what one would; the core runs where no orchestrator is installed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from logged import logged
from projects import REPOSITORY
from safetensors.torch import load_file

from components.data.packed.loaders import open_split
from components.shared.errors import SettingsError
from components.shared.files import read_json, write_json
from components.shared.progress import EVENTS_VARIABLE
from components.training.distributed import ProcessGroup, check_batch, process_group_of
from components.training.fit import fit
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def trained(job: TrainingJob, *launcher: str) -> Path:
    file = Path(job.output) / "job.json"
    write_json(file, job.model_dump())
    run(sys.executable, *launcher, "-m", "components.training.process", str(file))
    return Path(job.output)


def run(*command: str) -> str:
    answer = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=280)
    assert answer.returncode == 0, answer.stderr
    return answer.stderr


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_learn_what_one_does_with_the_same_global_batch(
    make_job: MakeJob, packed: Path, tmp_path: Path
) -> None:
    # A rest of one image is left out by either; another one would be divided among two only if it is even.
    whole = len(open_split(packed, "train")) // 2 * 2
    train = {"epochs": 5, "batch_size": whole, "ema_decay": 0.5}
    alone = trained(make_job(tmp_path / "alone", train=train))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    both = trained(make_job(tmp_path / "both", train=train), *launcher)
    one, two = (read_json(folder / "result.json")["history"] for folder in (alone, both))
    for score in ("train_loss", "val_loss", "val_accuracy"):
        assert [report[score] for report in two] == pytest.approx([report[score] for report in one], rel=2e-4)
    weights = load_file(both / "model" / "model.safetensors")
    for name, value in load_file(alone / "model" / "model.safetensors").items():
        assert torch.allclose(value, weights[name], atol=2e-4), name


UNLIKE = """
import os, sys
import torch
from components.models.classifier import ImageClassifier
from components.training import process
from components.training.callbacks import LastCheckpoint
begun, forward, rank = LastCheckpoint.__init__, ImageClassifier.forward, os.environ.get("LOCAL_RANK", "0")
def other_clock(self, *arguments, **named):
    begun(self, *arguments, **named)
    self._seconds = 1e-9 if rank == "0" else 1e9
def little_memory(self, images_BHWC):
    if self.training and rank == "1" and len(images_BHWC) > 3:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    return forward(self, images_BHWC)
LastCheckpoint.__init__, ImageClassifier.forward = other_clock, little_memory
sys.exit(process.main())
"""
"""Two processes with other clocks; the second one's memory holds no more than three images."""


@pytest.fixture
def train_unlike(tmp_path: Path) -> Callable[..., tuple[int, list[str], str]]:
    """Exit code of a training in such processes, what it sentences at its end or on the way, and standard error."""

    def call(job: TrainingJob, *launcher: str) -> tuple[int, list[str], str]:
        (tmp_path / "unlike.py").write_text(UNLIKE)
        file = Path(job.output) / "job.json"
        write_json(file, job.model_dump())
        answer = subprocess.run(
            [sys.executable, *launcher, str(tmp_path / "unlike.py"), str(file)],
            cwd=REPOSITORY,
            env=environment() | {EVENTS_VARIABLE: str(tmp_path / "events.jsonl")},
            capture_output=True,
            text=True,
            timeout=200,
        )
        events = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
        sentences = [event["message"] for event in events if event["event"] in ("log", "failed")]
        return answer.returncode, sentences, answer.stderr

    return call


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_unfreeze_write_checkpoints_within_an_epoch_and_halve_their_batch_together(
    make_job: MakeJob, packed: Path, tmp_path: Path, train_unlike: Callable[..., tuple[int, list[str], str]]
) -> None:
    start = fit(make_job(tmp_path / "start", train={"epochs": 1}), on_epoch=lambda _: None).model
    # As many images as whole batches hold: a remainder would be divided differently.
    shutil.copytree(packed, tmp_path / "data")
    index = pq.read_table(packed / "index.parquet")
    wanted = pc.or_(pc.not_equal(index["split"], "train"), pc.less(index["row"], 60))
    pq.write_table(index.filter(wanted), tmp_path / "data" / "index.parquet")
    np.save(tmp_path / "data" / "train-00000.npy", np.load(packed / "train-00000.npy")[:60])
    job = make_job(
        tmp_path / "both",
        step="finetune",
        start_from=start,
        train={"batch_size": 12, "checkpoint_minutes": 1, "halve_batch_on_oom": True, "loader_workers": 1},
        finetune={"epochs": 2, "unfreeze_every_n_epochs": 1},
    ).model_copy(update={"data": str(tmp_path / "data")})
    assert job.train.precision == "auto"
    exit_code, sentences, words = train_unlike(job, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert exit_code == 0, words
    assert sentences[0].startswith("finetune.unfreeze_every_n_epochs is 1: 2 of ")
    assert sentences[1].startswith(
        "several processes don't measure which numerics are fastest: train.precision and train.channels_last"
    )
    assert [sentence for sentence in sentences if "doesn't fit" in sentence] == [
        "a batch of 12 images doesn't fit into memory: restart with 6, accumulated twice as often"
    ]
    assert read_json(tmp_path / "both" / "plan.json")["halvings"] == 1
    alone = fit(job.model_copy(update={"output": str(tmp_path / "alone")}), on_epoch=lambda _: None)
    (first, second) = read_json(tmp_path / "both" / "result.json")["history"]
    for one, two in zip(alone.history, (first, second), strict=True):
        assert two["train_loss"] == pytest.approx(one.train_loss, rel=2e-3)
        assert two["val_loss"] == pytest.approx(one.val_loss, rel=2e-3)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_both_processes_end_with_one_sentence_where_one_has_too_little_memory(
    make_job: MakeJob, tmp_path: Path, train_unlike: Callable[..., tuple[int, list[str], str]]
) -> None:
    fixed = {"precision": "fp32", "channels_last": "off", "compile": "off"}
    exit_code, sentences, words = train_unlike(
        make_job(tmp_path / "job", train=fixed | {"batch_size": 8, "devices": 2})
    )
    assert exit_code == SettingsError.exit_code, words
    assert sentences == [
        "the device has too little memory; lower train.batch_size (now 8), or set train.halve_batch_on_oom or "
        "train.activation_checkpointing to true"
    ]
    assert "Traceback" not in words


BARE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("prefect", "dvc", "mlflow", "flows"):
            raise ImportError(f"{name} is not installed on this host")
sys.meta_path.insert(0, Blocked())
from components.training import process
sys.exit(process.main())
"""


def test_the_core_trains_where_neither_prefect_nor_dvc_nor_mlflow_is_installed(
    make_job: MakeJob, tmp_path: Path
) -> None:
    write_json(tmp_path / "job.json", make_job(tmp_path, train={"epochs": 1}).model_dump())
    run(sys.executable, "-c", BARE, str(tmp_path / "job.json"))
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_the_group_that_torchrun_started_is_used(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4"), ("RANK", "5")):
        monkeypatch.setenv(name, value)
    assert process_group_of(make_job(tmp_path).train) == ProcessGroup(world=8, rank=5, on_this_host=4)
    with pytest.raises(SettingsError, match=r"train\.devices: is 2, but 4 processes were started on this host; set it"):
        process_group_of(make_job(tmp_path, train={"devices": 2}).train)


def test_several_processes_have_no_cached_features(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    job = make_job(tmp_path, model={"freeze_backbone": True}, train={"augment": False, "cache_features": "on"})
    with pytest.raises(
        SettingsError, match=r"train\.cache_features: is on, but several processes don't cache features"
    ):
        fit(job, on_epoch=lambda _: None)
    job = make_job(tmp_path, model={"freeze_backbone": True}, train={"augment": False, "batch_size": 15})
    with logged() as messages, pytest.raises(SettingsError, match="can't be divided among 2 processes"):
        fit(job, on_epoch=lambda _: None)
    assert messages == [
        "the frozen backbone computes features in every epoch, because several processes don't cache them"
    ]


def test_a_batch_that_can_not_be_divided_evenly_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    settings = make_job(tmp_path).train
    with pytest.raises(
        SettingsError, match=r"16 images can't be divided among 3 processes; give a multiple of 3, 6 or more"
    ):
        check_batch(settings, ProcessGroup(world=3), 16)
    check_batch(settings, ProcessGroup(world=4), 16)
