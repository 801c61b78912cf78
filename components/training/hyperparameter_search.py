"""Hyperparameter search: the section `tune` of params.yaml, and the trials that Optuna suggests.

A search is stored in a database and resumes after a kill: an interrupted trial is handed out again, and a trial's
suggestions depend on the seed, its index and the results by then, not on the process that asks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator

from components.shared.settings import Settings

if TYPE_CHECKING:
    import optuna

Metric = Literal["accuracy", "macro_f1", "loss"]
State = Literal["finished", "pruned", "failed"]

_RUN, _REASON, _SECONDS = "run", "reason", "seconds"
_REDUCTION = 3
"""Reduction factor of hyperband: a third of the trials continue to three times the epochs (Li et al. 2018)."""


@dataclass(frozen=True)
class Choices:
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    log: bool
    step: float | None

    @property
    def whole(self) -> bool:
        """Whether all values are integers: both ends, and the step if there is one, are written without a point."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)


Dimension = Choices | Range


def dimension(value: Any) -> Dimension:
    """The dimension that a YAML value describes; raises ValueError with what it should be."""
    if isinstance(value, list):
        if not value or any(isinstance(one, list | dict) for one in value):
            raise ValueError("a list of at least one value")
        return Choices(tuple(value))
    if isinstance(value, dict):
        return _range(value)
    raise ValueError("a list of values, or a range such as {low: 0.0001, high: 0.1, log: true}")


def _range(value: Mapping[str, Any]) -> Range:
    ends = [value.get(name) for name in ("low", "high")]
    if not {"low", "high"} <= set(value) <= {"low", "high", "log", "step"} or not all(map(_is_number, ends)):
        raise ValueError("{low: NUMBER, high: NUMBER}, and perhaps log: true or step: NUMBER")
    low, high, log, step = value["low"], value["high"], value.get("log", False), value.get("step")
    if low >= high:
        raise ValueError("a range whose low is below its high")
    if not isinstance(log, bool) or (log and low <= 0):
        raise ValueError("a range above 0 where log is true, and log true or false")
    if step is not None and (log or not _is_number(step) or not 0 < step <= high - low):
        raise ValueError("a range with a step above 0, no wider than the range, and without log")
    return Range(low, high, log, step)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _checked(value: Any) -> Any:
    dimension(value)
    return value


class TuneSettings(Settings):
    """params.yaml: tune."""

    space: dict[str, Annotated[Any, PlainValidator(_checked)]]
    """Each searched setting: a list of values, or a range {low, high} with log: true or a step; integers where both
    ends are."""
    trials: int = Field(ge=1)
    """Number of trainings; more finds better values and takes longer."""
    metric: Metric
    """accuracy | macro_f1 | loss: validation score to optimize, of the best epoch; never on test."""
    sampler: Literal["tpe", "random"]
    """tpe (from the results of earlier trials) | random."""
    pruner: Literal["median", "hyperband", "none"]
    """Trials that end early: median (worse than half of the earlier ones) | hyperband (all but a third) | none.

    Both compare trials at the same epoch; hyperband does so repeatedly.
    """
    patience_epochs: int = Field(ge=0)
    """With `pruner: median`: epochs of each trial before it may be pruned; larger prunes less."""
    parallel_trials: int = Field(ge=1)
    """Trainings that workers run at the same time; without workers they run one after another."""
    seed: int = Field(ge=0)
    """Another seed suggests other values."""

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """Dimension of each searched setting, sorted by name."""
        return {name: dimension(value) for name, value in sorted(self.space.items())}


@dataclass(frozen=True)
class TrialResult:
    """A trial that has ended."""

    number: int
    """Counted from 1."""
    state: State
    values: dict[str, Any]
    """Values by setting, such as train.learning_rate."""
    score: float | None
    """Score of the best epoch; of a pruned trial the latest one; None where it failed."""
    run_id: str | None
    reason: str
    """Why it was pruned or failed."""
    seconds: float


class Trial:
    """One set of values to train with. It ends with a call of `finish`, `prune` or `fail`."""

    def __init__(self, search: "Search", trial: "optuna.trial.Trial", number: int) -> None:
        self._search, self._trial = search, trial
        self.number = number
        self.values: dict[str, Any] = {name: trial.params[name] for name in sorted(trial.params)}

    def report(self, epoch: int, score: float) -> str | None:
        """Why the trial should be pruned, or None. NaN counts as no report."""
        if math.isnan(score) or epoch in self._search.reported(self._trial.number):
            return None
        self._trial.report(score, epoch)
        if not self._trial.should_prune():
            return None
        return f"{self._search.settings.metric} {score:.4f} after epoch {epoch} falls behind earlier trials"

    def finish(self, score: float, *, run_id: str, seconds: float) -> None:
        self._end("finished", run_id, "", seconds, score)

    def prune(self, reason: str, *, run_id: str | None, seconds: float) -> None:
        self._end("pruned", run_id, reason, seconds)

    def fail(self, reason: str, *, run_id: str | None, seconds: float) -> None:
        self._end("failed", run_id, reason, seconds)

    def _end(self, state: State, run_id: str | None, reason: str, seconds: float, score: float | None = None) -> None:
        from optuna.trial import TrialState

        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        for name, value in ((_RUN, run_id), (_REASON, reason), (_SECONDS, round(seconds, 3))):
            self._trial.set_user_attr(name, value)
        self._search.record(self._trial, states[state], score)


class Search:
    """Trials of one search space, stored under `name` in an SQLite file; only one process may open it."""

    def __init__(self, database: Path, name: str, settings: TuneSettings, *, epochs: int) -> None:
        import optuna
        from sqlalchemy.pool import NullPool

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        database.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{database}", engine_kwargs={"poolclass": NullPool})
        self.settings, self._lock = settings, Lock()
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            pruner=_pruner(settings, epochs),
            direction="minimize" if settings.metric == "loss" else "maximize",
            load_if_exists=True,
        )
        self._distributions = {name: _distribution(one) for name, one in settings.dimensions.items()}
        self._interrupted = [trial for trial in self._complete() if trial.state == optuna.trial.TrialState.RUNNING]

    def ask(self) -> Trial | None:
        """The next trial, an interrupted one first; None when all trials were handed out."""
        import optuna

        with self._lock:
            if self._interrupted:
                interrupted = self._interrupted.pop(0)
                return Trial(
                    self, optuna.trial.Trial(self._study, interrupted._trial_id), self._index(interrupted.number)
                )
            count = len(self._complete())
            if count >= self.settings.trials:
                return None
            self._study.sampler = _sampler(self.settings, count)
            trial = self._study.ask(self._distributions)
            return Trial(self, trial, self._index(trial.number))

    def record(self, trial: "optuna.trial.Trial", state: Any, score: float | None) -> None:
        with self._lock:
            self._study.tell(trial.number, score, state=state)

    def reported(self, number: int) -> set[int]:
        """Epochs that a trial has reported already, before it was interrupted."""
        return set(self._study.get_trials(deepcopy=False)[number].intermediate_values)

    def results(self) -> list[TrialResult]:
        """The trials that have ended, in the order in which they began."""
        return [
            _result(index, trial) for index, trial in enumerate(self._complete(), start=1) if trial.state.is_finished()
        ]

    def best(self) -> TrialResult | None:
        """The finished trial with the best score; of equals the first."""
        finished = [one for one in self.results() if one.state == "finished" and one.score is not None]
        sign = 1 if self.settings.metric == "loss" else -1
        return min(finished, key=lambda one: (sign * (one.score or 0.0), one.number), default=None)

    def _complete(self) -> list["optuna.trial.FrozenTrial"]:
        """The trials without those that were killed before all of their values were stored."""
        return [one for one in self._study.get_trials(deepcopy=False) if set(one.params) == set(self._distributions)]

    def _index(self, number: int) -> int:
        return 1 + [one.number for one in self._complete()].index(number)


def _result(index: int, trial: "optuna.trial.FrozenTrial") -> TrialResult:
    state: State = {"COMPLETE": "finished", "PRUNED": "pruned"}.get(trial.state.name, "failed")  # type: ignore[assignment]
    reported = trial.intermediate_values
    return TrialResult(
        number=index,
        state=state,
        values=dict(sorted(trial.params.items())),
        score=trial.value if state == "finished" else reported[max(reported)] if reported else None,
        run_id=trial.user_attrs.get(_RUN),
        reason=trial.user_attrs.get(_REASON, ""),
        seconds=trial.user_attrs.get(_SECONDS, 0.0),
    )


def _distribution(one: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, Choices):
        return CategoricalDistribution(one.values)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def _sampler(settings: TuneSettings, index: int) -> Any:
    """A sampler seeded for each trial, so that a resumed search suggests what an uninterrupted one would."""
    import numpy as np
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([settings.seed, index]).generate_state(1)[0])
    if settings.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed)


def _pruner(settings: TuneSettings, epochs: int) -> Any:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if settings.pruner == "median":
        # Optuna counts from 0, and epochs from 1.
        return MedianPruner(n_startup_trials=min(5, settings.trials // 2), n_warmup_steps=settings.patience_epochs + 1)
    if settings.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=_REDUCTION)
    return NopPruner()
