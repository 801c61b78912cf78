"""What a model took to train, whatever it was made of; and that an unknown time wins nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows.experiments.compare import ComparisonRow, _row, training_seconds, with_front
from flows.tracking.runs import Tracking

RUNS: dict[str, tuple[dict[str, str], list[float]]] = {
    "train": ({"step": "train"}, [10.0, 12.0]),
    "finetune": ({"step": "finetune", "trained_from": "train"}, [5.0]),
    "other": ({"step": "train"}, [7.0]),
    "ensemble": ({"step": "ensemble", "members": "train finetune other"}, []),
    "snapshots": ({"step": "ensemble", "members": "train"}, []),
    "untold": ({"step": "train"}, []),
    "ensemble of the untold": ({"step": "ensemble", "members": "train untold"}, []),
    "ensemble of the deleted": ({"step": "ensemble", "members": "train deleted"}, []),
}


class Runs:
    """As much of MLflow's client as is asked."""

    def get_run(self, run_id: str) -> Any:
        if run_id not in RUNS:
            raise MlflowException(f"no run {run_id}")
        tags = RUNS[run_id][0]
        known = {f"darkroom.{name}": value for name, value in tags.items()} | {f"darkroom.done.{tags['step']}": "yes"}
        return SimpleNamespace(data=SimpleNamespace(tags=known))

    def get_metric_history(self, run_id: str, name: str) -> list[Any]:
        assert name == "seconds"
        return [SimpleNamespace(step=epoch, value=took) for epoch, took in enumerate(RUNS[run_id][1], start=1)]


@pytest.mark.parametrize(
    ("run_id", "seconds"),
    [
        ("train", 22.0),
        ("finetune", 27.0),
        ("ensemble", 34.0),
        ("snapshots", 22.0),
        ("ensemble of the untold", None),
        ("ensemble of the deleted", None),
    ],
)
def test_each_run_that_a_model_came_from_counts_once(run_id: str, seconds: float | None) -> None:
    tracking = Tracking(cast(MlflowClient, Runs()), "0", "shapes", Path())
    assert training_seconds(tracking, run_id) == seconds


def compared(name: str, seconds: float | None) -> ComparisonRow:
    return ComparisonRow(name, accuracy=0.9, latency_ms=1.0, bytes=1000, training_seconds=seconds)


def test_a_model_of_unknown_training_time_is_not_on_the_front_for_it() -> None:
    known, unknown = with_front([compared("known", 60.0), compared("unknown", None)])
    assert (known.non_dominated, unknown.non_dominated) == (True, False)
    assert "unknown" in _row(unknown, "known")[1:]
