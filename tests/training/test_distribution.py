"""Two processes that train together learn what one would; the core runs where no orchestrator is installed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.data.loading import open_part
from components.errors import SettingsError
from components.files import read_json, write_json
from components.training.distribution import Group, check_batch, group_of
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]
REPOSITORY = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def trained(job: TrainingJob, *launcher: str) -> Path:
    file = Path(job.output) / "job.json"
    write_json(file, job.model_dump())
    command = [sys.executable, *launcher, "-m", "components.training.process", str(file)]
    answer = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=280)
    assert answer.returncode == 0, answer.stderr
    return Path(job.output)


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_learn_what_one_does_with_the_same_global_batch(
    make_job: MakeJob, packed: Path, tmp_path: Path
) -> None:
    # A rest of one image is left out by either; another one would be dealt to two only if it is even.
    whole = len(open_part(packed, "train")) // 2 * 2
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
    command = [sys.executable, "-c", BARE, str(tmp_path / "job.json")]
    answer = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=200)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_what_torchrun_started_is_taken_up(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4"), ("RANK", "5")):
        monkeypatch.setenv(name, value)
    assert group_of(make_job(tmp_path).train) == Group(world=8, rank=5, on_this_host=4)
    with pytest.raises(SettingsError, match=r"train\.devices: is 2, but 4 processes were started on this host; set it"):
        group_of(make_job(tmp_path, train={"devices": 2}).train)


def test_a_batch_that_can_not_be_dealt_evenly_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    settings = make_job(tmp_path).train
    with pytest.raises(
        SettingsError, match=r"16 images can't be dealt to 3 processes; give a multiple of 3, 6 or more"
    ):
        check_batch(settings, Group(world=3), 16)
    check_batch(settings, Group(world=4), 16)
