"""What a training in a child process prints on the terminal, and how its end is reported.

The process is a real one, in a project whose training is a few lines: it reports an epoch and is killed.
"""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from logged import logged

from components.shared.errors import DarkroomError
from components.training.epoch_report import EpochReport
from flows.project import child_process
from flows.steps import training_run

EPOCH = EpochReport(
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
    gpu_memory_gib=0.0,
)
KILLED = f"""
import os, signal
from components.shared.progress import EventFile
EventFile(os.environ["DARKROOM_EVENTS"]).write(event="epoch", **{asdict(EPOCH)})
os.kill(os.getpid(), signal.SIGKILL)
"""
PROGRESS = Path(__file__).resolve().parents[2] / "components" / "shared" / "progress.py"


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """A session of a project whose trainings are killed in their third epoch."""
    process = tmp_path / "components" / "training" / "process.py"
    process.parent.mkdir(parents=True)
    process.write_text(KILLED)
    progress = tmp_path / "components" / "shared" / "progress.py"
    progress.parent.mkdir()
    progress.write_text(PROGRESS.read_text())
    for package in (process.parent.parent, process.parent, progress.parent):
        (package / "__init__.py").touch()
    project = SimpleNamespace(root=tmp_path, logs=tmp_path / "logs")
    params = SimpleNamespace(train=SimpleNamespace(batch_size=64))
    return SimpleNamespace(project=project, params=params, tracking=None)


def test_a_training_that_the_system_killed_names_the_settings_that_save_memory_and_logs_its_epochs(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics_by_step: list[tuple[dict[str, float], int]] = []
    monkeypatch.setattr(
        training_run.runs, "log_metrics", lambda _, run, metrics, *, step: metrics_by_step.append((metrics, step))
    )
    # The child runs the code of the fixture.
    monkeypatch.setattr(child_process, "CODE_ROOT", tmp_path)
    sentence = r"train was killed .* memory.* lower train\.batch_size \(now 64\) or set train\.activation_checkpointing"
    with logged() as messages, pytest.raises(DarkroomError, match=sentence):
        training_run.run_job(session, "run", tmp_path / "job", "train")
    assert messages == [
        "train 2/8: loss 0.5000, validation loss 0.6250, accuracy 0.7500, macro F1 0.5000; rate 0.003, 812 images/s, "
        "24 s left"
    ]
    ((metrics, step),) = metrics_by_step
    assert (metrics["val_accuracy"], step) == (0.75, 2)
