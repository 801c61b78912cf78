"""Files that appear whole or not at all: written beside the target, synced, renamed."""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Linux, renameat2(2): paths from the working folder, and both names change places.
_HERE, _EXCHANGE = -100, 2


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path to write to; it becomes `target` when the block ends well, and vanishes when it doesn't."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        _sync(draft)
        draft.chmod(0o644)
        draft.replace(target)
        _sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of `target` when the block ends well."""
    with draft_folder(target) as draft:
        yield draft
        if target.exists():
            _exchange(draft, target)  # what was there is now the draft, and goes with it
        else:
            draft.replace(target)
        _sync(target.parent)


@contextlib.contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`; it vanishes with the block, unless it was moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft.chmod(0o755)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Swaps two folders in one step, where the system can: a kill leaves either the old or the new one in place."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None or exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        retired = Path(tempfile.mkdtemp(prefix=f".{other.name}.", dir=other.parent))
        other.replace(retired / other.name)
        one.replace(other)
        shutil.rmtree(retired)


def write_text(target: Path, text: str) -> None:
    with whole_file(target) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(target: Path, record: Any) -> None:
    """JSON with sorted keys, so that equal records are equal bytes."""
    write_text(target, json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=True) + "\n")


def read_json(source: Path) -> Any:
    return json.loads(source.read_text(encoding="utf-8"))


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_record(record: Any) -> str:
    """A digest of a JSON-like value, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
