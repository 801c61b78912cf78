"""How a step becomes a Prefect task: no cache of Prefect's (DVC and MLflow know what is done), no pickled results."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def step(name: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    def as_task(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        made = task(name=name, cache_policy=NO_CACHE, persist_result=False)(function)
        return cast(Callable[Parameters, Result], made)

    return as_task
