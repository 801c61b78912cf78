"""Every mistake that a user can make, as one clear sentence and an exit code that a script can use.

DarkroomError        1  the work could not be finished
├── SettingsError    2  a parameter, a name or the usage is wrong
│   └── TrainingDiverged
├── ServiceError     2  a server or a file that the settings point to can't be reached or read
└── DataError        3  the images or their labels can't be used as they are
"""

import difflib
from collections.abc import Iterable


class DarkroomError(Exception):
    """The message names the cause and the remedy, in one sentence."""

    exit_code = 1


class SettingsError(DarkroomError):
    exit_code = 2


class TrainingDiverged(SettingsError):
    """The loss left the finite numbers."""


class ServiceError(DarkroomError):
    exit_code = 2


class DataError(DarkroomError):
    exit_code = 3


_BY_NAME = {kind.__name__: kind for kind in (DarkroomError, SettingsError, TrainingDiverged, ServiceError, DataError)}


def error_from_record(record: dict[str, str]) -> DarkroomError:
    """The error that another process wrote down as {"kind": ..., "message": ...}."""
    return _BY_NAME.get(record["kind"], DarkroomError)(record["message"])


def record_of(error: DarkroomError) -> dict[str, str]:
    kind = next(one.__name__ for one in type(error).__mro__ if one.__name__ in _BY_NAME)
    return {"kind": kind, "message": str(error)}


def first_line(problem: BaseException) -> str:
    """What another library's error says before its details; the name of its kind where it says nothing."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """ " did you mean X?" for the closest known name, or an empty text when none is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
