"""Searching settings by training with them: the section `tune` of params.yaml, and the trials that Optuna suggests.

A search lies in a database and goes on after a kill: a trial that was cut off is handed out again, and a trial's
suggestions depend on the seed, its place in the line and what is known by then, not on the process that asks.
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
"""Of hyperband: a third of the trials go on to thrice the epochs (Li et al. 2018)."""


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
        """Whole numbers alone: both ends, and the step if there is one, are written without a point."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)


Dimension = Choices | Range


def dimension(value: Any) -> Dimension:
    """Of the YAML that describes it; raises ValueError with what it should be."""
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


def _described(value: Any) -> Any:
    dimension(value)
    return value


class TuneSettings(Settings):
    """params.yaml: tune."""

    space: dict[str, Annotated[Any, PlainValidator(_described)]]
    """Each searched setting: a list of values, or a range {low, high} with log: true or a step; whole numbers where
    both ends are."""
    trials: int = Field(ge=1)
    """Trainings; more finds better values and takes longer."""
    metric: Metric
    """The validation score that is searched for, of the best epoch; the test split is never looked at."""
    sampler: Literal["tpe", "random"]
    """tpe: from what the trials before showed; random: anywhere."""
    pruner: Literal["median", "hyperband", "none"]
    """Which trials end early: median: worse than half of those before at the same epoch; hyperband: all but the best
    third, again and again; none."""
    patience_epochs: int = Field(ge=0)
    """Of the median: epochs of each trial before it may be pruned; larger prunes less."""
    parallel_trials: int = Field(ge=1)
    """Trainings that workers are given at the same time; here they come one after another."""
    seed: int = Field(ge=0)
    """Another seed suggests other values."""

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """By name, in the order of the names."""
        return {name: dimension(value) for name, value in sorted(self.space.items())}


@dataclass(frozen=True)
class Outcome:
    """A trial that is over."""

    number: int
    """Counted from 1."""
    state: State
    values: dict[str, Any]
    """By setting, such as train.learning_rate."""
    score: float | None
    """Of the best epoch; of a pruned one until it was; None where it failed."""
    run_id: str | None
    reason: str
    """Why it was pruned or failed."""
    seconds: float


class Trial:
    """One set of values to train with. It is over once `finish`, `prune` or `fail` was called."""

    def __init__(self, search: "Search", trial: "optuna.trial.Trial", number: int) -> None:
        self._search, self._trial = search, trial
        self.number = number
        self.values: dict[str, Any] = {name: trial.params[name] for name in sorted(trial.params)}

    def report(self, epoch: int, score: float) -> str | None:
        """Why the trial should end here, or None. NaN counts as no report."""
        if math.isnan(score) or epoch in self._search.reported(self._trial.number):
            return None
        self._trial.report(score, epoch)
        if not self._trial.should_prune():
            return None
        return f"{self._search.settings.metric} {score:.4f} after epoch {epoch} is no match for the trials before"

    def finish(self, score: float, *, run_id: str, seconds: float) -> None:
        self._over("finished", run_id, "", seconds, score)

    def prune(self, reason: str, *, run_id: str | None, seconds: float) -> None:
        self._over("pruned", run_id, reason, seconds)

    def fail(self, reason: str, *, run_id: str | None, seconds: float) -> None:
        self._over("failed", run_id, reason, seconds)

    def _over(self, state: State, run_id: str | None, reason: str, seconds: float, score: float | None = None) -> None:
        from optuna.trial import TrialState

        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        for name, value in ((_RUN, run_id), (_REASON, reason), (_SECONDS, round(seconds, 3))):
            self._trial.set_user_attr(name, value)
        self._search.tell(self._trial, states[state], score)


class Search:
    """Trials of one space, kept below `name` in an SQLite file; who opens it must be the only one."""

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
        self._cut_off = [trial for trial in self._whole() if trial.state == optuna.trial.TrialState.RUNNING]

    def ask(self) -> Trial | None:
        """The next set of values, one that was cut off first; None once there were as many as were asked for."""
        import optuna

        with self._lock:
            if self._cut_off:
                found = self._cut_off.pop(0)
                return Trial(self, optuna.trial.Trial(self._study, found._trial_id), self._place(found.number))
            count = len(self._whole())
            if count >= self.settings.trials:
                return None
            self._study.sampler = _sampler(self.settings, count)
            trial = self._study.ask(self._distributions)
            return Trial(self, trial, self._place(trial.number))

    def tell(self, trial: "optuna.trial.Trial", state: Any, score: float | None) -> None:
        with self._lock:
            self._study.tell(trial.number, score, state=state)

    def reported(self, number: int) -> set[int]:
        """Epochs that a trial has told of already, before it was cut off."""
        return set(self._study.get_trials(deepcopy=False)[number].intermediate_values)

    def outcomes(self) -> list[Outcome]:
        """The trials that are over, in the order in which they began."""
        return [
            _outcome(place, trial) for place, trial in enumerate(self._whole(), start=1) if trial.state.is_finished()
        ]

    def best(self) -> Outcome | None:
        """The finished trial with the best score; of equals the first."""
        finished = [one for one in self.outcomes() if one.state == "finished" and one.score is not None]
        sign = 1 if self.settings.metric == "loss" else -1
        return min(finished, key=lambda one: (sign * (one.score or 0.0), one.number), default=None)

    def _whole(self) -> list["optuna.trial.FrozenTrial"]:
        """Without trials that were killed before all of their values were written down."""
        return [one for one in self._study.get_trials(deepcopy=False) if set(one.params) == set(self._distributions)]

    def _place(self, number: int) -> int:
        return 1 + [one.number for one in self._whole()].index(number)


def _outcome(place: int, trial: "optuna.trial.FrozenTrial") -> Outcome:
    state: State = {"COMPLETE": "finished", "PRUNED": "pruned"}.get(trial.state.name, "failed")  # type: ignore[assignment]
    reported = trial.intermediate_values
    return Outcome(
        number=place,
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


def _sampler(settings: TuneSettings, place: int) -> Any:
    """Seeded anew for each place in the line, so that a search that goes on suggests what an unbroken one would."""
    import numpy as np
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([settings.seed, place]).generate_state(1)[0])
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
