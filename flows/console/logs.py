"""Logging of a process: plain lines on standard error, and every line with its time in a file of the project's.

Modules log with `logging.getLogger(__name__)`: at level info what a user follows, at level warning what a user should
look at, at level debug what helps to find a fault. An entry point calls `start_logging` once. Prefect adds a handler of
its own, which brings the same lines to its page (see flows.project.prefect_environment).
"""

import contextlib
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

Level = Literal["WARNING", "INFO", "DEBUG"]

LEVEL_VARIABLE = "DARKROOM_LOG_LEVEL"
"""Environment variable with the level of the console: WARNING, INFO or DEBUG. Child processes inherit it."""
PACKAGES = ("components", "flows")
"""Loggers whose lines are shown; what libraries log is not."""
_MAX_FILES = 100
_PLAIN, _WITH_NAMES = "%(message)s", "%(levelname)s %(name)s: %(message)s"
_IN_FILE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def console_level() -> int:
    """Level of the console as the environment sets it; INFO where it names no level."""
    return logging.getLevelNamesMapping().get(os.environ.get(LEVEL_VARIABLE, "").upper(), logging.INFO)


def start_logging(*, level: Level | None = None, folder: Path | None = None, name: str = "darkroom") -> None:
    """Shows what is logged on standard error, and writes all of it into a new file `TIME-name-PID.log` of the folder.

    `level` is handed on to child processes; without it the environment's level holds. The file appears with its first
    line; only the newest files of the folder are kept.
    """
    if level is not None:
        os.environ[LEVEL_VARIABLE] = level
    handlers: list[logging.Handler] = [ConsoleHandler(console_level())]
    if folder is not None:
        handlers.append(_LogFile(folder / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{os.getpid()}.log"))
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers[:] = handlers
        logger.setLevel(logging.DEBUG)
        # Libraries put handlers on the root, which would show each line twice.
        logger.propagate = False


def set_default_level() -> None:
    """Lets info through in a process that somebody else set up for logging, such as Prefect's of a flow run."""
    for package in PACKAGES:
        logger = logging.getLogger(package)
        if logger.level == logging.NOTSET:
            logger.setLevel(console_level())


def log_file() -> Path | None:
    """The log file of this process; None where it has written none."""
    found = _log_file()
    return found.path if found is not None and found.path.exists() else None


def log_to_file(message: str) -> None:
    """Writes an error that the console shows already into the log file, if there is one."""
    found = _log_file()
    if found is not None and log_file() is not None:
        found.handle(logging.makeLogRecord({"name": "flows", "levelname": "ERROR", "msg": message}))


class ConsoleHandler(logging.Handler):
    """Prints to what standard error is at the moment: progress bars put themselves in its place."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter(_WITH_NAMES if level <= logging.DEBUG else _PLAIN))

    def emit(self, record: logging.LogRecord) -> None:
        # A closed terminal ends no work.
        with contextlib.suppress(OSError):
            print(self.format(record), file=sys.stderr, flush=True)


class _LogFile(logging.FileHandler):
    """A file that appears with its first line; where it can't be written, the command runs without it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.path = path
        self.setFormatter(logging.Formatter(_IN_FILE))

    def _open(self) -> IO[str]:  # type: ignore[override]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for old in sorted(self.path.parent.glob("*.log"))[: 1 - _MAX_FILES]:
                old.unlink(missing_ok=True)
            return self.path.open("a", encoding="utf-8")
        except OSError:
            return Path(os.devnull).open("a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk costs the line."""


def _log_file() -> _LogFile | None:
    handlers = logging.getLogger(PACKAGES[0]).handlers
    return next((handler for handler in handlers if isinstance(handler, _LogFile)), None)
