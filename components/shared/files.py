"""Files that appear whole or not at all: written beside the target, synced, renamed."""

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
"""What the system answers where a disk, a quota, or a limit on the size of a file takes no more."""
# Linux, renameat2(2): paths from the working folder, and both names change places.
_HERE, _EXCHANGE = -100, 2
_DRAFT, _NEW_SECONDS = ".draft", 60.0
_RANDOM = re.compile(r"\.[a-z0-9_]+\.draft")
"""What stands behind the name of the target."""


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A path to write to; it becomes `target` when the block ends well, and vanishes when it doesn't."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_DRAFT, dir=target.parent)
    draft = Path(name)
    try:
        _claim(handle)
        yield draft
        _sync(draft)
        draft.chmod(0o644)
        draft.replace(target)
        _sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of `target` when the block ends well."""
    with temporary_folder(target) as draft:
        yield draft
        if target.exists():
            _exchange(draft, target)  # what was there is now the draft, and goes with it
        else:
            draft.replace(target)
        _sync(target.parent)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`; it vanishes with the block, unless it was moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(target)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_DRAFT, dir=target.parent))
    handle = os.open(draft, os.O_RDONLY)
    try:
        _claim(handle)
        draft.chmod(0o755)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(handle)


def remove_temporaries(target: Path) -> None:
    """Removes what writers of this target left beside it when they were killed."""
    for draft in abandoned_temporaries(target.parent, of=target.name):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def abandoned_temporaries(folder: Path, *, of: str = "") -> list[Path]:
    """Drafts in the folder (of one target, or of any) whose writer is gone: nobody holds them, and they aren't new."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{of}") and entry.name.endswith(_DRAFT)]
    drafts = [folder / name for name in names if not of or _RANDOM.fullmatch(name[len(of) + 1 :])]
    return [draft for draft in sorted(drafts) if _is_abandoned(draft)]


def _is_abandoned(draft: Path) -> bool:
    try:
        # Between its making and its claim a draft is nobody's, too.
        if time.time() - draft.stat().st_mtime < _NEW_SECONDS:
            return False
        handle = os.open(draft, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _claim(handle: int) -> None:
    """Held until the handle is closed, which the system does for a killed process; not every file system can."""
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _exchange(one: Path, other: Path) -> None:
    """Swaps two folders in one step, where the system can: a kill leaves either the old or the new one in place."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None or exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        retired = Path(tempfile.mkdtemp(prefix=f".{other.name}.", suffix=_DRAFT, dir=other.parent))
        other.replace(retired / other.name)
        one.replace(other)
        shutil.rmtree(retired)


def write_text(target: Path, text: str) -> None:
    with atomic_file(target) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(target: Path, record: Any) -> None:
    """JSON with sorted keys, so that equal records are equal bytes."""
    write_text(target, json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=True) + "\n")


def read_json(source: Path) -> Any:
    return json.loads(source.read_text(encoding="utf-8"))


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_folder(folder: Path, *, passed_over: Collection[str] = ()) -> str:
    """A digest of the names and contents of all files below a folder, but for files and folders of these names."""
    below = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    kept = [place for place in below if not set(place.parts) & set(passed_over)]
    return sha256_of_record([(place.as_posix(), sha256_of_file(folder / place)) for place in kept])


def sha256_of_record(record: Any) -> str:
    """A digest of a JSON-like value, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
