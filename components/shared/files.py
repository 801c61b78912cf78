"""Atomic writes and checksums: a file or folder is written beside its target, synced and renamed."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota, and a limit on the size of a file."""
# Linux, renameat2(2): AT_FDCWD and RENAME_EXCHANGE.
_CWD, _EXCHANGE = -100, 2
_SUFFIX, _NEW_SECONDS = ".tmp", 60.0
_RANDOM_ENDING = re.compile(r"\.[a-z0-9_]+\.tmp")
"""What a temporary's name adds to the name of its target."""


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A path to write to; it becomes `target` when the block succeeds, and is removed when the block fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent)
    temporary = Path(name)
    try:
        _lock(handle)
        yield temporary
        _sync(temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it replaces `target` when the block succeeds."""
    with temporary_folder(target) as temporary:
        yield temporary
        if target.exists():
            _exchange(temporary, target)  # the old folder is now the temporary one, and is removed with it
        else:
            temporary.replace(target)
        _sync(target.parent)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`; it is removed at the end of the block, unless it was moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent))
    handle = os.open(temporary, os.O_RDONLY)
    try:
        _lock(handle)
        temporary.chmod(0o755)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def remove_temporaries(target: Path) -> None:
    """Removes the temporaries that killed writers of this target left beside it."""
    for temporary in abandoned_temporaries(target.parent, of=target.name):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def abandoned_temporaries(folder: Path, *, of: str = "") -> list[Path]:
    """Temporaries in the folder (of one target, or of any) whose writer is gone: unlocked and a minute old or older."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{of}") and entry.name.endswith(_SUFFIX)]
    temporaries = [folder / name for name in names if not of or _RANDOM_ENDING.fullmatch(name[len(of) + 1 :])]
    return [temporary for temporary in sorted(temporaries) if _is_abandoned(temporary)]


def _is_abandoned(temporary: Path) -> bool:
    try:
        # Between creation and locking a live temporary is unlocked, too.
        if time.time() - temporary.stat().st_mtime < _NEW_SECONDS:
            return False
        handle = os.open(temporary, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _lock(handle: int) -> None:
    """Locks until the handle is closed, which the system does for a killed process; some file systems can't lock."""
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _exchange(one: Path, other: Path) -> None:
    """Swaps two folders, atomically where the system can: after a kill either the old or the new one is in place."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None or exchange(_CWD, os.fsencode(one), _CWD, os.fsencode(other), _EXCHANGE) != 0:
        retired = Path(tempfile.mkdtemp(prefix=f".{other.name}.", suffix=_SUFFIX, dir=other.parent))
        other.replace(retired / other.name)
        one.replace(other)
        shutil.rmtree(retired)


def write_text(target: Path, text: str) -> None:
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, record: Any) -> None:
    """JSON with sorted keys, so that equal records are equal bytes."""
    write_text(target, json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=True) + "\n")


def read_json(source: Path) -> Any:
    return json.loads(source.read_text(encoding="utf-8"))


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_folder(folder: Path, *, excluded: Collection[str] = ()) -> str:
    """SHA-256 over names and contents of all files below a folder, without files and folders named in `excluded`."""
    paths = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    included = [path for path in paths if not set(path.parts) & set(excluded)]
    return sha256_of_record([(path.as_posix(), sha256_of_file(folder / path)) for path in included])


def sha256_of_record(record: Any) -> str:
    """SHA-256 of a JSON-like value; the order of its keys doesn't matter."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
