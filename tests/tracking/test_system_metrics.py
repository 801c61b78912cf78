"""A run records how busy its machine is."""

import time
from pathlib import Path

import pytest

from flows.project.project import Project
from flows.tracking import runs, system_metrics


def test_a_run_records_its_machine_before_any_epoch_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(system_metrics, "_SAMPLE_SECONDS", 0.02)
    monkeypatch.setattr(system_metrics, "_SAMPLES", 2)
    tracking = runs.open_tracking(Project(tmp_path, tmp_path / "home"), "watched")
    run_id = runs.begin(tracking, "train", "f" * 64, name="train lenet5", tags={})

    def cpu() -> list[tuple[int, float]]:
        return runs.metric_history(tracking, run_id, "system/cpu_utilization_percentage")

    with system_metrics.system_metrics(tracking, run_id):
        until = time.monotonic() + 20
        while not cpu() and time.monotonic() < until:
            time.sleep(0.02)
        assert cpu()
    metrics = tracking.client.get_run(run_id).data.metrics
    assert {"system/system_memory_usage_megabytes", "system/network_receive_megabytes"} <= set(metrics)
    assert any(name.startswith("system/disk_") for name in metrics)
    before = len(cpu())
    time.sleep(0.1)
    assert len(cpu()) == before, "it ends with the work"
