"""Search for better settings: trainings with other values, scored on validation and stopped early where they lag."""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

from prefect import flow

from components.shared.errors import DarkroomError, ServiceError, SettingsError, nearest
from components.shared.plural import counted
from components.training.hyperparameter_search import Choices, Search, Trial, TrialResult
from flows.console.tables import show_table
from flows.project import child_process
from flows.project.fingerprint import fingerprint
from flows.project.params import Params, override
from flows.project.project import Project
from flows.session.preflight import check_names
from flows.session.session import Prepared, Session, exclusive, open_session, timed
from flows.steps.prepare import Prepare
from flows.steps.remote_training import require_deployment, train_on
from flows.steps.step import Results, run_all
from flows.steps.train import Train, train_fingerprint
from flows.steps.training_run import TrainingStopped
from flows.tracking import runs

logger = logging.getLogger(__name__)

_SECTIONS = ("model", "train")
"""What trials may change: they share their data, which the other sections rule."""
_NOT_SEARCHED = ("preprocess", "augment", "finetune")


@dataclass(frozen=True)
class _Task:
    """One search, and what all of its trials use."""

    session: Session
    prepared: Prepared
    search: Search
    key: str
    run_id: str
    """The run above those of the trials."""
    deployment: str | None


@dataclass(frozen=True)
class SearchResult:
    run_id: str
    metric: str
    """The validation score that was searched for."""
    best: TrialResult
    trials: list[TrialResult]
    applied: list[str]
    """What changed in params.yaml, a sentence a change."""


@flow(name="tune")
def tune(
    overrides: list[str] | None = None,
    project: str | None = None,
    deployment: str | None = None,
    apply: bool = False,
    values: dict[str, Any] | None = None,
) -> SearchResult:
    """Resumes the search of this space, or starts it; returns its trials and the best one.

    With a deployment, such as train/gpu, its workers train; `apply` writes the best values into params.yaml.
    """
    session = open_session(project, overrides, values=values)
    check_space(session.params, session.project)
    if deployment is not None:
        require_deployment(deployment)
    prepared = run_all([Prepare()], session)[Prepared]
    session = session.for_data()
    key = search_fingerprint(session, prepared)
    with timed("tune") as watch, exclusive(session.project, key):
        task = _open(session, prepared, key, deployment)
        _work(task)
        outcomes, best = task.search.results(), task.search.best()
        _keep(task, outcomes, best)
        watch.note = f"{counted(len(outcomes), 'trial')}, run {task.run_id}"
    if best is None:
        raise DarkroomError(f"none of {len(outcomes)} trials came to its end; the last one: {outcomes[-1].reason}")
    return SearchResult(
        run_id=task.run_id,
        metric=session.params.tune.metric,
        best=best,
        trials=outcomes,
        applied=_apply(session, best) if apply else [],
    )


def check_space(params: Params, project: Project) -> None:
    """Raises SettingsError for a setting that can't be searched, or a value that it can't have."""
    space = params.tune.dimensions
    if not space:
        raise SettingsError(
            "params.yaml: tune.space: is empty; name what to search, such as "
            "train.learning_rate: {low: 0.0001, high: 0.1, log: true}"
        )
    for name, one in space.items():
        _check_name(params, name)
        for value in one.values if isinstance(one, Choices) else (one.low, one.high):
            try:
                check_names(params.with_values({name: value}), project)
            except SettingsError as problem:
                raise SettingsError(f"params.yaml: tune.space: {str(problem).removeprefix('params.yaml: ')}") from None


def _check_name(params: Params, name: str) -> None:
    known = [f"{section}.{key}" for section in _SECTIONS for key in type(getattr(params, section)).model_fields]
    if name in known:
        return
    if name.partition(".")[0] in _NOT_SEARCHED:
        raise SettingsError(
            f"params.yaml: tune.space.{name}: can't be searched, for all trials share their data and end before "
            f"fine-tuning; search settings of {' and '.join(_SECTIONS)}"
        )
    raise SettingsError(f"params.yaml: tune.space.{name}: unknown{nearest(name, known)}")


def search_fingerprint(session: Session, prepared: Prepared) -> str:
    """Equal for searches that can continue with one another's trials: more trials don't make it another search."""
    settings = session.params.tune
    first = {name: one.values[0] if isinstance(one, Choices) else one.low for name, one in settings.dimensions.items()}
    # A searched setting counts with its first value: applying the best value doesn't start another search.
    base = replace(session, params=session.params.with_values(first))
    return fingerprint(
        "tune",
        inputs={"training": train_fingerprint(base, prepared)},
        settings=settings.model_dump(exclude={"trials", "parallel_trials"}),
        code=("components.training.hyperparameter_search",),
        packages=("optuna",),
    )


def _open(session: Session, prepared: Prepared, key: str, deployment: str | None) -> _Task:
    settings = session.params.tune
    run_id = runs.begin(
        session.tracking,
        "tune",
        key,
        name=f"tune {settings.metric}",
        tags={"darkroom.data_version": prepared.data_version},
    )
    runs.log_params(session.tracking, run_id, {"tune": settings.model_dump(exclude={"trials", "parallel_trials"})})
    database = session.project.home / "search" / "trials.db"
    search = Search(database, key, settings, epochs=session.params.train.epochs)
    done = len(search.results())
    if done:
        logger.info(f"the search resumes: {done} of {settings.trials} trials are finished")
    return _Task(session, prepared, search, key, run_id, deployment)


def _work(task: _Task) -> None:
    """Trial after trial; with workers as many at once as `tune.parallel_trials` says."""
    halted = Event()
    if task.deployment is None:
        _one_after_another(task, halted)
        return
    count = task.session.params.tune.parallel_trials
    with ThreadPoolExecutor(count) as threads:
        for line in [threads.submit(_one_after_another, task, halted) for _ in range(count)]:
            line.result()


def _one_after_another(task: _Task, halted: Event) -> None:
    """Until there are enough, or another line met what is no trial's fault."""
    try:
        while not halted.is_set() and (trial := task.search.ask()) is not None:
            _try(task, trial)
    except Exception:
        halted.set()
        raise


def _try(task: _Task, trial: Trial) -> None:
    """Trains with the trial's values. Its outcome is recorded, and the search continues."""
    started = time.perf_counter()

    def seconds() -> float:
        return time.perf_counter() - started

    values = ", ".join(f"{name} {_brief(value)}" for name, value in trial.values.items())
    logger.info(f"trial {trial.number}: {values}")
    run_id, score = None, None
    try:
        session = replace(task.session, params=task.session.params.with_values(trial.values))
        key = train_fingerprint(session, task.prepared)
        try:
            train = _train_here if task.deployment is None else _train_there
            train(task, session, trial, key)
            run_id = runs.find_done(session.tracking, "train", key)
            assert run_id is not None
            score = best_score(session, run_id, task.search.settings.metric)
            trial.finish(score, run_id=run_id, seconds=seconds())
        finally:
            run_id = run_id or runs.find_started(session.tracking, "train", key)
    except ServiceError:
        # Not the trial's fault: it runs again when the search resumes.
        raise
    except TrainingStopped as stopped:
        trial.prune(str(stopped), run_id=run_id, seconds=seconds())
    except DarkroomError as problem:
        trial.fail(str(problem), run_id=run_id, seconds=seconds())
    outcome = next(one for one in task.search.results() if one.number == trial.number)
    _note(task, outcome)


def _train_here(task: _Task, session: Session, trial: Trial, key: str) -> None:
    del key

    def on_epoch(_: str, event: child_process.Event) -> None:
        reason = trial.report(event["epoch"], event[f"val_{task.search.settings.metric}"])
        if reason is not None and event["epoch"] < event["epochs"]:
            raise TrainingStopped(reason)

    Train(parent_run=task.run_id, on_epoch=on_epoch).run(session, Results(task.prepared))


def _train_there(task: _Task, session: Session, trial: Trial, key: str) -> None:
    """By a worker; its epochs are read from MLflow."""
    assert task.deployment is not None
    reasons: list[str] = []

    def look() -> None:
        run_id = runs.find_started(session.tracking, "train", key)
        if run_id is None or reasons:
            return
        for epoch, score in runs.metric_history(session.tracking, run_id, f"val_{task.search.settings.metric}"):
            reason = trial.report(epoch, score)
            if reason is not None and epoch < session.params.train.epochs:
                reasons.append(reason)
                runs.ask_to_stop(session.tracking, run_id, reason)
                return

    done = train_on(
        task.deployment, session, task.prepared, values=trial.values, parent_run=task.run_id, while_waiting=look
    )
    if done is None:
        raise TrainingStopped(reasons[0] if reasons else "the training was asked to stop")


def best_score(session: Session, run_id: str, metric: str) -> float:
    """The validation score of the weights that were kept: the best epoch's, or a soup's."""
    return runs.metric_history(session.tracking, run_id, f"best_val_{metric}")[-1][1]


def _note(task: _Task, outcome: TrialResult) -> None:
    """On the trial's run; on one that stands for it where the training is of another search, or never began."""
    tracking, run_id = task.session.tracking, outcome.run_id
    name = f"trial {outcome.number}"
    tags = {"darkroom.trial": str(outcome.number), "darkroom.trial_state": outcome.state}
    scores: dict[str, float] = {} if outcome.score is None else {task.search.settings.metric: outcome.score}
    if run_id is not None and _is_its_own(task, run_id, tags):
        runs.set_tags(tracking, run_id, tags | {"mlflow.runName": name})
        runs.log_metrics(tracking, run_id, scores)
    else:
        key = f"{task.key} {outcome.number}"
        tags |= {"darkroom.trained": run_id} if run_id is not None else {}
        own = runs.begin(tracking, "trial", key, name=name, tags=tags, under=task.run_id)
        runs.log_params(tracking, own, outcome.values)
        runs.log_metrics(tracking, own, scores)
        endings: dict[str, Callable[[], None]] = {
            "finished": lambda: runs.finish(tracking, own, "trial", key),
            "pruned": lambda: runs.stop(tracking, own, outcome.reason),
            "failed": lambda: runs.fail(tracking, own, outcome.reason),
        }
        endings[outcome.state]()
    score = "" if outcome.score is None else f", {task.search.settings.metric} {outcome.score:.4f}"
    reason = f": {outcome.reason}" if outcome.reason else ""
    logger.info(f"trial {outcome.number} {outcome.state} in {outcome.seconds:.1f} s{score}{reason}")


def _is_its_own(task: _Task, run_id: str, tags: dict[str, str]) -> bool:
    """Whether the training was begun for this trial: not before the search, and not for equal values in it."""
    if not runs.is_under(task.session.tracking, run_id, task.run_id):
        return False
    noted = runs.tags_of(task.session.tracking, run_id).get("darkroom.trial")
    return noted in (None, tags["darkroom.trial"])


def _keep(task: _Task, outcomes: list[TrialResult], best: TrialResult | None) -> None:
    tracking = task.session.tracking
    runs.log_table(tracking, task.run_id, "trials.json", table_of(outcomes, task.search.settings.metric))
    if best is None:
        runs.fail(tracking, task.run_id, "no trial came to its end")
        return
    runs.log_metrics(tracking, task.run_id, {f"best_{task.search.settings.metric}": best.score or 0.0})
    runs.set_tags(tracking, task.run_id, {"darkroom.best_trial": str(best.number)})
    runs.finish(tracking, task.run_id, "tune", task.key)


def table_of(outcomes: list[TrialResult], metric: str) -> dict[str, list[Any]]:
    """Columns of the trials: number, state, score, values, seconds, run and reason."""
    names = sorted({name for one in outcomes for name in one.values})
    return {
        "trial": [one.number for one in outcomes],
        "state": [one.state for one in outcomes],
        metric: [one.score for one in outcomes],
        **{name: [one.values.get(name) for one in outcomes] for name in names},
        "seconds": [one.seconds for one in outcomes],
        "run": [one.run_id for one in outcomes],
        "reason": [one.reason for one in outcomes],
    }


def _apply(session: Session, best: TrialResult) -> list[str]:
    """Writes the values into params.yaml, as --set does; a sentence a change."""
    assignments = [f"{name}={json.dumps(value)}" for name, value in best.values.items()]
    said = override(session.project.params, assignments, check=lambda params: check_names(params, session.project))
    for change in said:
        logger.info(change)
    return said


def show_trials(result: SearchResult) -> None:
    """The trials as a table on standard output, the best one marked."""
    metric, best = result.metric, result.best.number
    names = sorted({name for one in result.trials for name in one.values})
    rows = [
        [
            f"{one.number}{' *' if one.number == best else ''}",
            one.state,
            "" if one.score is None else f"{one.score:.4f}",
            *(_brief(one.values[name]) for name in names),
            f"{one.seconds:.1f}",
            (one.run_id or "")[:12],
            one.reason,
        ]
        for one in result.trials
    ]
    title = f"search for the best {metric} on validation, of {len(rows)} trials (* the best)"
    show_table(title, ("trial", "state", metric, *names, "seconds", "run", "reason"), rows)


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
