"""`darkroom settings`: what each setting that is `auto` became for the current data, and why."""

from dataclasses import dataclass
from typing import Any

from components.records.data_facts import FACTS, TYPICAL, DataFacts
from components.shared.errors import DataError
from flows.console.tables import show_table
from flows.project.dvc import data_paths
from flows.project.params import override, read_params, shown
from flows.project.project import Project


@dataclass(frozen=True)
class ResolvedSetting:
    """A setting that is `auto`."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class ResolvedSettings:
    """All settings that are `auto`."""

    settings: list[ResolvedSetting]
    for_current_data: bool
    """False: there are no prepared data yet, and the values are those for typical photos."""
    frozen: bool
    """Whether params.yaml now holds the values."""

    def show(self) -> str:
        """Shows the settings as a table; returns the sentence that goes below it."""
        if not self.settings:
            return "no setting is auto"
        rows = [(one.name, shown(one.value), one.reason) for one in self.settings]
        show_table("settings that are auto", ("setting", "value", "reason"), rows)
        if self.frozen:
            return "params.yaml now holds these values"
        return "" if self.for_current_data else "for typical photos; `darkroom prepare` finds out what yours are like"


def resolved_settings(project: Project, *, freeze: bool) -> ResolvedSettings:
    """The settings that are `auto` with their values; with `freeze` params.yaml holds those from now on.

    Raises DataError where they should be frozen and no data are prepared.
    """
    params = read_params(project.params)
    file = data_paths(project).split / FACTS
    if freeze and not file.exists():
        raise DataError("no data are prepared, from which the settings could follow; run `darkroom prepare` first")
    _, choices = params.for_data(DataFacts.read(file) if file.exists() else TYPICAL)
    if freeze:
        values = [f"{choice.name}={shown(choice.value)}" for choice in choices]
        override(project.params, values, check=lambda _: None)
    return ResolvedSettings(
        [ResolvedSetting(choice.name, choice.value, choice.reason) for choice in choices], file.exists(), freeze
    )
