"""Errors that a user can fix: one sentence with cause and remedy, and an exit code for scripts.

DarkroomError        1  the command could not finish
├── SettingsError    2  a setting, a name or an argument is wrong
│   └── TrainingDiverged
├── ServiceError     2  a server or file that the settings name can't be reached or read
└── DataError        3  the images or their labels can't be used
"""

import difflib
from collections.abc import Iterable


class DarkroomError(Exception):
    """The message names the cause and the remedy, in one sentence."""

    exit_code = 1


class SettingsError(DarkroomError):
    exit_code = 2


class TrainingDiverged(SettingsError):
    """The loss became infinite or NaN."""


class ServiceError(DarkroomError):
    exit_code = 2


class DataError(DarkroomError):
    exit_code = 3


_BY_NAME = {
    error.__name__: error for error in (DarkroomError, SettingsError, TrainingDiverged, ServiceError, DataError)
}


def error_from_record(record: dict[str, str]) -> DarkroomError:
    """The error that another process recorded as {"type": ..., "message": ...}."""
    return _BY_NAME.get(record["type"], DarkroomError)(record["message"])


def record_of(error: DarkroomError) -> dict[str, str]:
    name = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _BY_NAME)
    return {"type": name, "message": str(error)}


def first_line(problem: BaseException) -> str:
    """First line of another library's error message; the name of its class where the message is empty."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" with the closest known name; empty where none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""
