"""What a training in a child process tells on the terminal, and of its own end."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import DarkroomError
from components.training.reports import EpochReport
from flows import train
from flows.child import Finished


def session_in(folder: Path) -> Any:
    project = SimpleNamespace(root=folder, logs=folder / "logs")
    params = SimpleNamespace(train=SimpleNamespace(batch_size=64))
    return SimpleNamespace(project=project, params=params, tracking=None)


def test_a_training_that_the_system_killed_names_the_settings_that_save_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "run_child", lambda *_, **__: Finished(-9, [], tmp_path / "log"))
    with pytest.raises(
        DarkroomError, match=r"train was killed .* memory .* lower train\.batch_size \(now 64\) or set train\.recompute"
    ):
        train.run_job(session_in(tmp_path), "run", tmp_path / "job", "train")


def test_an_epoch_is_told_with_its_rate_its_speed_and_what_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(train, "say", said.append)
    monkeypatch.setattr(train.runs, "log_metrics", lambda *_, **__: None)
    report = EpochReport(
        epoch=2,
        epochs=8,
        train_loss=0.5,
        val_loss=0.625,
        val_accuracy=0.75,
        val_macro_f1=0.5,
        learning_rate=0.003,
        learning_rates=[0.003],
        seconds=4.0,
        images_per_second=812.3,
        seconds_left=24.0,
        cpu_percent=187.4,
        memory_gib=1.26,
        gpu_memory_gib=0.0,
    )
    train._on_event(session_in(Path()), "run", "train", {"event": "epoch", **asdict(report)})
    assert said == [
        "train 2/8: loss 0.5000, validation loss 0.6250, accuracy 0.7500, macro F1 0.5000; rate 0.003, 812 images/s, "
        "CPU 187% and 1.3 GiB, 24 s left"
    ]
