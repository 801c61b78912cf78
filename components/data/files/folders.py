"""Folders of this machine and of object stores behind one interface, with one walk and one glob for both.

Paths are text with forward slashes, relative to the folder. A walk visits one level at a time in order of names, so
that the same folder always gives the same files in the same order, and none of it is listed as a whole. Links to
folders are followed only by a LocalFolder that is set to: they may lead out of the folder, or in circles.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from components.data.images.decoding import IMAGE_ENDINGS
from components.shared.errors import DataError

WILDCARD = re.compile(r"[*?\[]")
MISSING = "the file is missing"
LEADS_OUT = "a link that leads out of the data folder; ingest.follow_links: true follows it"


@dataclass(frozen=True)
class FileListing:
    paths: list[str]
    """Files in order of their paths, without hidden ones."""
    num_hidden: int
    """Hidden files, and hidden folders counted once with everything in them."""


class Folder(Protocol):
    name: str
    """Path or address as the user wrote it; empty for the folder of `LocalFolder("")`."""

    def list_files(self) -> FileListing:
        """All files below the folder."""
        ...

    def entries(self, path: str) -> list[tuple[str, bool]]:
        """Names in one folder, hidden ones too, and whether each is a folder, in order of names."""
        ...

    def type_of(self, path: str) -> Literal["file", "folder"] | None:
        """None if nothing has this path."""
        ...

    def problem_of(self, path: str) -> str | None:
        """Why the file can't be read as one of the data set, as far as can be known without reading it."""
        ...

    def is_unfollowed_link(self, path: str) -> bool:
        """Whether the path is a link to a folder or to nothing, so that what it leads to is not listed."""
        ...

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """Raises DataError for a file larger than `max_bytes`."""
        ...

    def read_range(self, path: str, offset: int, size_bytes: int) -> bytes: ...

    def open(self, path: str) -> AbstractContextManager[BinaryIO]: ...


class LocalFolder:
    """A folder of this machine. `LocalFolder("")` takes paths as the user typed them, relative or absolute."""

    def __init__(self, root: Path | str, *, follow_links: bool = False) -> None:
        self.name = str(root)
        self._follow_links = follow_links
        self._real_root = os.path.realpath(root)
        self._is_inside_by_folder: dict[str, bool] = {}

    def list_files(self) -> FileListing:
        """A link to a folder that isn't followed, or leads in a circle, is listed like a file: it gets a reason."""
        paths, num_hidden = list[str](), 0
        folders: list[tuple[str, tuple[str, ...]]] = [("", ())]
        while folders:
            folder, above = folders.pop()
            if self._follow_links:
                above = (*above, os.path.realpath(self._absolute(folder)))
            for name, is_folder in self.entries(folder):
                path = f"{folder}/{name}" if folder else name
                if name.startswith("."):
                    num_hidden += 1
                elif is_folder and not (above and os.path.realpath(self._absolute(path)) in above):
                    folders.append((path, above))
                else:
                    paths.append(path)
        return FileListing(sorted(paths), num_hidden)

    def entries(self, path: str) -> list[tuple[str, bool]]:
        folder = self._absolute(path)
        try:
            with os.scandir(folder or ".") as entries:
                return sorted((entry.name, entry.is_dir(follow_symlinks=self._follow_links)) for entry in entries)
        except OSError as problem:
            raise DataError(f"{folder}: can't be listed: {problem.strerror}; make it readable") from None

    def type_of(self, path: str) -> Literal["file", "folder"] | None:
        file = self._absolute(path)
        if os.path.isdir(file):  # noqa: PTH112 - a million times
            return "folder"
        return "file" if os.path.exists(file) else None  # noqa: PTH110

    def problem_of(self, path: str) -> str | None:
        # Called for millions of files: one lstat each, and more only for links.
        file = self._absolute(path)
        if not self._folder_is_inside(file.rpartition("/")[0]):
            return LEADS_OUT
        try:
            mode = os.lstat(file).st_mode
            if stat.S_ISLNK(mode):
                if not self._is_inside(os.path.realpath(file)):
                    return LEADS_OUT
                mode = os.stat(file).st_mode  # noqa: PTH116
        except FileNotFoundError:
            return "a link that leads nowhere" if os.path.islink(file) else MISSING  # noqa: PTH114
        except OSError as problem:
            return f"can't be read: {problem.strerror}"
        return None if stat.S_ISREG(mode) else "not a plain file"

    def is_unfollowed_link(self, path: str) -> bool:
        file = Path(self._absolute(path))
        return file.is_symlink() and not file.is_file()

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        with self.open(path) as stream:
            return check_size(stream.read(-1 if max_bytes is None else max_bytes + 1), max_bytes)

    def read_range(self, path: str, offset: int, size_bytes: int) -> bytes:
        with self.open(path) as stream:
            stream.seek(offset)
            return stream.read(size_bytes)

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        return open(self._absolute(path), "rb")  # noqa: PTH123 - the caller closes it

    def _absolute(self, path: str) -> str:
        return join(self.name, path) if path else self.name

    def _folder_is_inside(self, folder: str) -> bool:
        # Thousands of files share a folder, whose links are resolved once.
        if folder not in self._is_inside_by_folder:
            self._is_inside_by_folder[folder] = self._is_inside(os.path.realpath(folder))
        return self._is_inside_by_folder[folder]

    def _is_inside(self, real: str) -> bool:
        return self._follow_links or real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)


def visible_entries(folder: Folder, path: str) -> Iterator[tuple[str, bool]]:
    """Paths in one folder and whether each is a folder, in order of names, without hidden ones."""
    for name, is_folder in folder.entries(path):
        if not name.startswith("."):
            yield join(path, name), is_folder


def match_pattern(folder: Folder, pattern: str) -> Iterator[tuple[str, bool]]:
    """Paths that match a glob pattern, and whether each is a folder; `**` matches any number of folders, or none."""
    steps = pattern.split("/")
    first = next(index for index, step in enumerate(steps) if WILDCARD.search(step))
    start = "/".join(steps[:first]) or ("/" if pattern.startswith("/") else "")
    if folder.type_of(start or ".") == "folder":
        yield from _match_steps(folder, start, steps[first:])


def _match_steps(folder: Folder, path: str, steps: list[str]) -> Iterator[tuple[str, bool]]:
    step, rest = steps[0], steps[1:]
    if step == "**" and rest:
        yield from _match_steps(folder, path, rest)
    for below, is_folder in visible_entries(folder, path):
        if step == "**":
            if is_folder:
                yield from _match_steps(folder, below, steps)
            elif not rest:
                yield below, False
        elif fnmatch.fnmatchcase(below.rpartition("/")[2], step):
            if not rest:
                yield below, is_folder
            elif is_folder:
                yield from _match_steps(folder, below, rest)


def refuse_unfollowed_link(folder: Folder, path: str) -> None:
    """Raises DataError if a link may hide a class, a split or a shard."""
    if folder.is_unfollowed_link(path):
        raise DataError(
            f"{folder.name}: {path} is a link to a folder or to nothing, and links are not followed; put the folder "
            "itself there, remove the link, or --set ingest.follow_links=true"
        )


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name


def check_size(content: bytes, max_bytes: int | None) -> bytes:
    if max_bytes is not None and len(content) > max_bytes:
        raise DataError(f"the file has more than {max_bytes:,} bytes")
    return content


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS  # noqa: PTH122 - a million times
