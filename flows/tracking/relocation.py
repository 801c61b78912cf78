"""Artifact addresses of a project that was moved, renamed or copied: MLflow's database holds absolute ones.

Beside the database stands the folder for which its addresses were written. Where the project is another folder by now,
they are rewritten before anybody reads them, so that a copy neither reads nor writes in the place of the original.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from filelock import FileLock

from components.shared.errors import DarkroomError
from components.shared.files import read_json, write_json
from flows.project.project import Project

logger = logging.getLogger(__name__)

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
_ARTIFACTS = Path("mlflow", "artifacts")
_RUNS_OF_MLFLOW = "mlruns"
"""Where MLflow keeps what is logged to its default experiment: in the folder in which the database was made."""
_BUSY_SECONDS = 60.0


def update_addresses(project: Project) -> None:
    """Makes the addresses in the project's own database those of this folder; does nothing where they are.

    Raises DarkroomError where they aren't and the database can't be written.
    """
    database, note = project.home / "mlflow" / "mlflow.db", project.home / "mlflow" / "folder.json"
    if not database.exists():
        _remember(project, note)
        return
    if _is_here(project, note):
        return
    try:
        with FileLock(note.with_suffix(".lock")):
            if not _is_here(project, note):
                _rewrite(project, database, note)
    except (OSError, sqlite3.Error) as problem:
        raise DarkroomError(
            f"the project was moved or copied, and the artifact addresses in {database} can't be rewritten "
            f"({problem}); allow writing it, or work in the original folder"
        ) from None


def _is_here(project: Project, note: Path) -> bool:
    recorded = _recorded(note)
    if recorded is None:
        return False
    home = Path(recorded["home"])
    if home == project.home:
        return True
    # The same folder by another name, such as a mounted one, under which its addresses are good.
    with suppress(OSError):
        return home.samefile(project.home)
    return False


def _recorded(note: Path) -> dict[str, str] | None:
    with suppress(OSError, ValueError, KeyError):
        record = read_json(note)
        return {"home": str(record["home"]), "root": str(record["root"])}
    return None


def _remember(project: Project, note: Path) -> None:
    # In a folder that can't be written MLflow itself says so.
    with suppress(OSError):
        write_json(note, {"home": str(project.home), "root": str(project.root)})


def _rewrite(project: Project, database: Path, note: Path) -> None:
    recorded = _recorded(note)
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        known = sorted(
            (table, column)
            for table, column in _COLUMNS
            if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        )
        pairs = [*(_pairs(project, recorded) if recorded else _guessed(project, connection))]
        changed = sum(
            _replace(connection, table, column, old, new) for table, column in known for old, new in pairs if old != new
        )
    # Last: whoever was stopped in between does it again, and finds nothing more to change.
    _remember(project, note)
    if changed:
        logger.info(f"the project was moved or copied here: {changed} artifact addresses now name {project.home}")


def _pairs(project: Project, recorded: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The start of the old addresses, and what takes its place."""
    home, root = Path(recorded["home"]), Path(recorded["root"])
    yield (home / _ARTIFACTS).as_uri(), (project.home / _ARTIFACTS).as_uri()
    yield str(root / _RUNS_OF_MLFLOW), str(project.root / _RUNS_OF_MLFLOW)


def _guessed(project: Project, connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """The same of a database that is older than the note beside it: its experiments name the folder."""
    own, ending = project.home / _ARTIFACTS, f"/{project.home.name}/{_ARTIFACTS.as_posix()}"
    for (location,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments"):
        if str(location).startswith("file:///") and str(location).endswith(ending):
            yield location, own.as_uri()


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> int:
    """Of whole steps of a path alone: /home/me/photos is no start of /home/me/photos2."""
    changed = connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
    )
    return changed.rowcount
