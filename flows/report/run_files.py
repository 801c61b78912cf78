"""Files that a run keeps, for the report: one that can't be read is noted, and the page says so instead of failing."""

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

_STEP_OF_FOLDER = {"evaluate": "evaluate", "export": "quantize", "served": "quantize", "gate": "promote"}


@dataclass
class RunFiles:
    """Files of one run, by the folder that holds them."""

    tracking: runs.Tracking
    run_id: str
    made_by: str
    """The step that made the model: train, finetune or ensemble."""
    problems: list[str] = field(default_factory=list)
    """What could not be read, a sentence each."""

    def path(self, folder: str, name: str = "") -> Path | None:
        """Path of the file; None, with a note, where the run lacks it."""
        found = self._fetched(folder, name)
        if found is not None and not found.exists():
            self.problems.append(f"run {self.run_id} has no {folder}/{name}")
            return None
        return found

    def optional(self, folder: str, name: str) -> Path | None:
        """Path of a file that the run need not have; None where it lacks it."""
        found = self._fetched(folder, name)
        return found if found is not None and found.exists() else None

    def _fetched(self, folder: str, name: str) -> Path | None:
        step = _STEP_OF_FOLDER.get(folder.partition("/")[0], self.made_by)
        try:
            return runs.fetch(self.tracking, self.run_id, folder, step=step) / name
        except DarkroomError as problem:
            self.problems.append(str(problem))
            return None

    def read(self, record: type[R], folder: str, name: str = "") -> R | None:
        """The record in a file of the run; None, with a note, where it can't be read."""
        path = self.path(folder, name)
        try:
            return record.read(path) if path is not None else None
        except DarkroomError as problem:
            self.problems.append(str(problem))
            return None

    def json(self, folder: str, name: str = "") -> Any:
        """Content of a JSON file; None, with a note, where it can't be read."""
        path = self.path(folder, name)
        try:
            return read_json(path) if path is not None else None
        except ValueError as problem:
            self.problems.append(f"{folder}/{name} of run {self.run_id} can't be read: {problem}")
            return None

    def picture(self, folder: str, name: str, *, alt: str, caption: str) -> "Picture | None":
        from components.reporting.pictures import picture_of_file

        path = self.path(folder, name)
        return picture_of_file(path, alt=alt, caption=caption) if path is not None else None
