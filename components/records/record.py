"""Base of the JSON records that one step writes and another reads: typed, versioned, written and read by one class."""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from components.shared.errors import DataError
from components.shared.files import write_json


class Record(BaseModel):
    """A record file. Subclasses raise VERSION whenever a field changes its name, type or meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    TITLE: ClassVar[str]
    """What the file is called in messages, such as `leak proof`."""
    REMEDY: ClassVar[str]
    """What writes the file again, as the end of a sentence."""
    VERSION: ClassVar[int] = 1

    version: int = 1
    """Version of the record's format."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record in the file; raises DataError where it is missing, broken or of another version."""
        try:
            content = path.read_bytes()
        except OSError as problem:
            raise DataError(f"the {cls.TITLE} {path} can't be read ({problem.strerror}); {cls.REMEDY}") from None
        try:
            version = json.loads(content).get("version")
        except (ValueError, AttributeError):
            raise DataError(f"the {cls.TITLE} {path} is not a JSON record; {cls.REMEDY}") from None
        if version != cls.VERSION:
            raise DataError(
                f"the {cls.TITLE} {path} has format version {version}, and this release of Darkroom reads version "
                f"{cls.VERSION}; {cls.REMEDY}"
            )
        try:
            return cls.model_validate_json(content)
        except ValidationError as problem:
            raise DataError(f"the {cls.TITLE} {path} is broken ({_first_error(problem)}); {cls.REMEDY}") from None

    def write(self, path: Path) -> None:
        """Writes the file atomically; equal records are equal bytes."""
        write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the file."""
        return self.model_dump()


def _first_error(problem: ValidationError) -> str:
    error = problem.errors()[0]
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
