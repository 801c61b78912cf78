"""What a run keeps, for whoever shows it: a thing that can't be had is noted."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.records.record import Record
from components.shared.errors import DarkroomError
from components.shared.files import read_json
from flows.tracking import runs

if TYPE_CHECKING:
    from components.reporting.inline_pictures import Picture

R = TypeVar("R", bound=Record)

_STEP_OF_PLACE = {"evaluate": "evaluate", "export": "quantize", "served": "quantize", "gate": "promote"}


@dataclass
class Kept:
    """What a run keeps; a thing that can't be had is noted, and the page says so instead of failing."""

    tracking: runs.Tracking
    run_id: str
    made_by: str
    """The step that made the model: train, finetune or ensemble."""
    problems: list[str] = field(default_factory=list)

    def path(self, place: str, name: str = "") -> Path | None:
        try:
            step = _STEP_OF_PLACE.get(place.partition("/")[0], self.made_by)
            found = runs.fetch(self.tracking, self.run_id, place, step=step) / name
        except DarkroomError as problem:
            self.problems.append(str(problem))
            return None
        if not found.exists():
            self.problems.append(f"run {self.run_id} keeps no {place}/{name}")
            return None
        return found

    def record(self, place: str, name: str = "") -> Any:
        path = self.path(place, name)
        try:
            return read_json(path) if path is not None else None
        except ValueError as problem:
            self.problems.append(f"{place}/{name} of run {self.run_id} can't be read: {problem}")
            return None

    def read(self, kind: type[R], place: str, name: str) -> R | None:
        """The record in a file of the run; None where it can't be had."""
        path = self.path(place, name)
        try:
            return kind.read(path) if path is not None else None
        except DarkroomError as problem:
            self.problems.append(str(problem))
            return None

    def picture(self, place: str, name: str, *, alt: str, caption: str) -> "Picture | None":
        from components.reporting.pictures import picture_of_file

        path = self.path(place, name)
        return picture_of_file(path, alt=alt, caption=caption) if path is not None else None
