"""A search suggests the same again, also after a kill, and ends trials that lag behind."""

from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import SettingsError
from components.training.hyperparameter_search import Search, TuneSettings

SPACE: dict[str, Any] = {
    "train.learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
    "train.batch_size": {"low": 16, "high": 64, "step": 16},
    "model.architecture": ["plain", "lenet5"],
}


def settings(**changes: Any) -> TuneSettings:
    values = {
        "space": SPACE,
        "trials": 8,
        "metric": "accuracy",
        "sampler": "tpe",
        "pruner": "median",
        "patience_epochs": 0,
        "parallel_trials": 1,
        "seed": 7,
    }
    return TuneSettings.from_section("tune", values | changes)


def open_search(folder: Path, **changes: Any) -> Search:
    return Search(folder / "trials.db", "a search", settings(**changes), epochs=4)


def finish_all(search: Search) -> list[dict[str, Any]]:
    values = []
    while (trial := search.ask()) is not None:
        values.append(trial.values)
        trial.finish(trial.values["train.learning_rate"], run_id="run", seconds=1.0)
    return values


def test_equal_searches_suggest_equal_values_within_the_space(tmp_path: Path) -> None:
    one, other = finish_all(open_search(tmp_path / "one")), finish_all(open_search(tmp_path / "other"))
    assert one == other
    assert len(one) == 8
    assert len({values["train.learning_rate"] for values in one}) == 8
    for values in one:
        assert 0.0001 <= values["train.learning_rate"] <= 0.1
        assert values["train.batch_size"] in (16, 32, 48, 64)
        assert values["model.architecture"] in ("plain", "lenet5")
    assert finish_all(open_search(tmp_path / "third", seed=8)) != one


def test_an_interrupted_search_resumes_as_an_uninterrupted_one_would(tmp_path: Path) -> None:
    unbroken = finish_all(open_search(tmp_path / "unbroken"))
    broken = open_search(tmp_path / "broken", trials=3)
    first = broken.ask()
    assert first is not None
    first.finish(first.values["train.learning_rate"], run_id="run", seconds=1.0)
    interrupted = broken.ask()
    assert interrupted is not None
    interrupted.report(1, 0.5)
    again = open_search(tmp_path / "broken")
    resumed = again.ask()
    assert resumed is not None
    assert (resumed.number, resumed.values) == (2, interrupted.values)
    assert resumed.report(1, 0.9) is None, "the epoch was reported before the kill"
    resumed.finish(resumed.values["train.learning_rate"], run_id="run", seconds=1.0)
    assert [first.values, resumed.values, *finish_all(again)] == unbroken
    assert [one.number for one in again.results()] == list(range(1, 9))


@pytest.mark.parametrize(("metric", "good", "bad"), [("accuracy", 0.9, 0.2), ("loss", 0.2, 0.9)])
def test_a_trial_behind_the_others_is_pruned_and_the_best_one_wins(
    tmp_path: Path, metric: str, good: float, bad: float
) -> None:
    search = open_search(tmp_path, metric=metric, trials=6, patience_epochs=1)
    for _ in range(4):
        trial = search.ask()
        assert trial is not None
        assert [trial.report(epoch, good) for epoch in (1, 2, 3)] == [None] * 3
        trial.finish(good, run_id="run", seconds=1.0)
    laggard = search.ask()
    assert laggard is not None
    assert laggard.report(1, bad) is None, "within its patience"
    reason = laggard.report(2, bad)
    assert reason == f"{metric} {bad:.4f} after epoch 2 falls behind earlier trials"
    laggard.prune(reason, run_id="other", seconds=1.0)
    failed = search.ask()
    assert failed is not None
    assert failed.report(1, float("nan")) is None
    failed.fail("loss is nan", run_id=None, seconds=1.0)
    assert search.ask() is None
    assert [one.state for one in search.results()] == ["finished"] * 4 + ["pruned", "failed"]
    assert (search.results()[4].score, search.results()[5].score) == (bad, None)
    assert search.results()[5].reason == "loss is nan"
    best = search.best()
    assert best is not None
    assert (best.number, best.score) == (1, good)


@pytest.mark.parametrize("pruner", ["hyperband", "none"])
def test_each_pruner_takes_reports(tmp_path: Path, pruner: str) -> None:
    search = open_search(tmp_path, pruner=pruner, sampler="random")
    trial = search.ask()
    assert trial is not None
    assert trial.report(1, 0.5) is None
    trial.finish(0.5, run_id="run", seconds=1.0)
    assert [one.score for one in search.results()] == [0.5]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trials": 0}, "params.yaml: tune.trials: is 0, should be greater than or equal to 1"),
        ({"metric": "f1"}, "params.yaml: tune.metric: is 'f1', should be 'accuracy', 'macro_f1' or 'loss'"),
        ({"pruner": "mean"}, "params.yaml: tune.pruner: is 'mean', should be 'median', 'hyperband' or 'none'"),
        ({"trails": 3}, "params.yaml: tune.trails: unknown; did you mean trials?"),
        ({"space": {"train.seed": []}}, "tune.space.train.seed: is [], should be a list of at least one value"),
        ({"space": {"train.seed": 3}}, "tune.space.train.seed: is 3, should be a list of values, or a range such as"),
        ({"space": {"train.seed": {"low": 3}}}, "should be {low: NUMBER, high: NUMBER}, and perhaps log: true"),
        ({"space": {"train.seed": {"low": 5, "high": 3}}}, "should be a range whose low is below its high"),
        ({"space": {"train.seed": {"low": 0, "high": 3, "log": True}}}, "should be a range above 0 where log is true"),
        (
            {"space": {"train.seed": {"low": 0, "high": 3, "step": 4}}},
            "should be a range with a step above 0, no wider",
        ),
        ({"space": {"train.seed": {"low": True, "high": 3}}}, "should be {low: NUMBER, high: NUMBER}"),
    ],
)
def test_a_mistake_in_the_section_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(**changes)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
