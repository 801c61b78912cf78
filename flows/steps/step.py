"""The step protocol: what a step of the pipeline declares, and what is done for each of them alike.

A step declares its name, what it reads, and its code and packages; it finds its own finished result, or works. All the
rest happens here, once: the fingerprint, the lock, the time, the line in the log and, in a flow, the Prefect task.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar, cast

from flows.project.fingerprint import Facts, fingerprint
from flows.session.session import Session, StepTime, Stopwatch, exclusive, timed

Result = TypeVar("Result")


class Results:
    """What the steps of one run have produced so far, by its type, and how long each step took."""

    def __init__(self, *given: object) -> None:
        self._by_type: dict[type, object] = {type(one): one for one in given}
        self.times: list[StepTime] = []

    def __getitem__(self, kind: type[Result]) -> Result:
        """The newest result of this type; KeyError where no step has produced one."""
        return cast(Result, self._by_type[kind])

    def add(self, result: object) -> None:
        self._by_type[type(result)] = result


class Step(ABC, Generic[Result]):
    """One step of the pipeline."""

    name: ClassVar[str]
    reads_models: ClassVar[bool] = True
    """Whether the step needs the tracking server."""
    trains: ClassVar[bool] = False
    """Whether the step starts from the models that `model.weights` and `train.teacher` name."""
    exports: ClassVar[bool] = False
    """Whether the step runs exported files with the provider that `quantize.provider` names."""

    @abstractmethod
    def run(self, session: Session, results: Results) -> Result:
        """Finds or computes the result, logs it, adds it and its time to the results, and returns it."""


class TimedStep(Step[Result]):
    """A step whose line in the log says whether it ran, how long it took and what came of it."""

    def run(self, session: Session, results: Results) -> Result:
        with timed(self.name) as watch:
            result = self.find_or_work(session, results, watch)
        results.add(result)
        results.times.append(watch.time())
        return result

    @abstractmethod
    def find_or_work(self, session: Session, results: Results, watch: Stopwatch) -> Result:
        """The result; the watch is given whether it was there already, and what the log says about it."""


class FingerprintedStep(TimedStep[Result]):
    """A step that has nothing to do where a finished result has the same fingerprint."""

    code: ClassVar[tuple[str, ...]]
    """The modules that compute; with all that they import they count for the fingerprint."""
    packages: ClassVar[tuple[str, ...]]
    """Installed packages whose versions count for the fingerprint."""

    @abstractmethod
    def inputs(self, session: Session, results: Results) -> Facts:
        """What the step reads that isn't a setting, as values that change when it changes."""

    @abstractmethod
    def settings(self, session: Session) -> Facts:
        """The settings that the step reads."""

    @abstractmethod
    def find(self, session: Session, results: Results, key: str) -> Result | None:
        """The result of an earlier run with this fingerprint."""

    @abstractmethod
    def work(self, session: Session, results: Results, key: str) -> Result:
        """Computes the result and stores it where `find` looks."""

    @abstractmethod
    def summary(self, session: Session, result: Result) -> str:
        """What the log says about the result."""

    def skip(self, session: Session, results: Results) -> tuple[Result, str] | None:
        """The result, and the reason for the log, where the settings leave the step out."""
        return None

    def fingerprint(self, session: Session, results: Results) -> str:
        """Equal fingerprints mean that the step would compute the same result."""
        return fingerprint(
            self.name,
            inputs=self.inputs(session, results),
            settings=self.settings(session),
            code=self.code,
            packages=self.packages,
        )

    def find_or_work(self, session: Session, results: Results, watch: Stopwatch) -> Result:
        skipped = self.skip(session, results)
        if skipped is not None:
            watch.reused(skipped[1])
            return skipped[0]
        key = self.fingerprint(session, results)
        # A second run in the same folder waits here, and then finds the work done.
        with exclusive(session.project, key):
            result = self.find(session, results, key)
            if result is not None:
                watch.reused(self.summary(session, result))
                return result
            result = self.work(session, results, key)
        watch.note = self.summary(session, result)
        return result


def run_as_task(step: Step[Result], session: Session, results: Results) -> Result:
    """Runs the step as a Prefect task; called in a flow."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    # DVC and MLflow know what is done, so Prefect caches nothing; and no result is pickled.
    as_task = task(name=step.name, cache_policy=NO_CACHE, persist_result=False)
    run = cast(Callable[[Session, Results], Result], as_task(step.run))
    return run(session, results)


def run_all(steps: Iterable[Step[Any]], session: Session, *given: object) -> Results:
    """Runs the steps one after another as Prefect tasks, starting with the `given` results."""
    results = Results(*given)
    for step in steps:
        run_as_task(step, session, results)
    return results
