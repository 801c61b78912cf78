"""The label types by name. A new one is a class beside these, and a line here."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from components.shared.errors import DataError
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import Task

TASKS: dict[str, type[Task]] = {
    "single_label": SingleLabel,
    "multi_label": MultiLabel,
    "hierarchy": Hierarchy,
}


def task_type(name: str) -> type[Task]:
    """The class of a label type; raises DataError for a name that no label type has."""
    if name not in TASKS:
        raise DataError(f"there is no label type {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]


def task_of(name: str, labels: Iterable[Sequence[str]], level_names: Sequence[str] = ()) -> Task:
    """The task of a label type that the labels of some images span."""
    return task_type(name).of(labels, level_names)


def task_from_record(section: str, record: dict[str, Any]) -> Task:
    """The task that `model_dump` wrote; raises SettingsError that names what is wrong in the section."""
    return task_type(str(record.get("task"))).from_section(section, record)


def _validated(value: Any) -> Any:
    return task_type(str(value.get("task"))).model_validate(value) if isinstance(value, dict) else value


AnyTask = Annotated[SerializeAsAny[Task], BeforeValidator(_validated)]
"""For a field of settings that holds a task of any type."""
