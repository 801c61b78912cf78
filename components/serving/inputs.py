"""What a prediction is asked of: images of folders, patterns, tables, archives, stores and lists, one after another.

Nothing is listed as a whole: a folder is known one level at a time, a table one block, a tar archive one member, a
list one line. (A zip archive carries its own index, which is read.) Folders come in order of their names, archives and
tables in their own order, so that the same sources name the same images in the same order again.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol

from components.data.images.decoding import IMAGE_ENDINGS
from components.data.sources.locations import RemoteFolder, is_remote, split_remote
from components.serving.archives import ARCHIVE_ENDINGS, BrokenOff, tar_members, zip_members
from components.serving.path_tables import TABLE_ENDINGS, path_rows
from components.shared.errors import DataError

STANDARD_INPUT = "-"
MAX_FILE_BYTES = 2**30
"""A larger file is no photograph."""

_PATTERN = re.compile(r"[*?\[]")
_NAMED_ASIDE = 3


@dataclass(frozen=True)
class Input:
    """An image to be judged."""

    name: str
    """As it stands in the answer: a path, an address, or archive.zip/path/inside."""
    read: Callable[[], bytes]
    """Its bytes; raises OSError or DataError where this image is at fault, ServiceError where its store is."""


@dataclass
class LeftAside:
    """What the sources hold besides images, counted while they are gone through."""

    num_files: int = 0
    """Files whose names don't end as those of images do, in folders, patterns and archives."""
    names: list[str] = field(default_factory=list)
    """The first of them."""

    def count(self, name: str) -> None:
        self.num_files += 1
        if self.num_files <= _NAMED_ASIDE:
            self.names.append(name)

    def forget(self) -> None:
        self.num_files, self.names = 0, []


class Tree(Protocol):
    """Folders of this machine or of a store."""

    def kind(self, path: str) -> str | None:
        """file, folder, or None where there is nothing."""
        ...

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Names in the folder and whether each is a folder, in order; hidden ones are left out."""
        ...

    def read(self, path: str) -> bytes: ...

    def open(self, path: str) -> AbstractContextManager[BinaryIO]: ...

    def named(self, path: str) -> str:
        """As the path stands in the answer."""
        ...


class LocalTree:
    def kind(self, path: str) -> str | None:
        if os.path.isdir(path):  # noqa: PTH112 - paths are text here, as the user wrote them
            return "folder"
        return "file" if os.path.exists(path) else None  # noqa: PTH110

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """A link to a folder is not followed: it may lead in circles."""
        try:
            with os.scandir(folder or ".") as found:
                kept = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found if _visible(entry.name)]
        except OSError as problem:
            raise DataError(f"{folder}: can't be listed: {problem.strerror}; make it readable") from None
        return sorted(kept)

    def read(self, path: str) -> bytes:
        with self.open(path) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        return _bounded(content)

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        return open(path, "rb")  # noqa: PTH123 - the caller closes it

    def named(self, path: str) -> str:
        return path


class RemoteTree:
    """Paths are those inside the folder that was opened."""

    def __init__(self, folder: RemoteFolder) -> None:
        self._folder = folder

    def kind(self, path: str) -> str | None:
        return self._folder.kind(path)

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        return [entry for entry in self._folder.entries(folder) if _visible(entry[0])]

    def read(self, path: str) -> bytes:
        return _bounded(self._folder.reader(path)())

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        return self._folder.open(path)

    def named(self, path: str) -> str:
        return f"{self._folder.name}/{path}"


def find_inputs(
    sources: Iterable[str], *, lines: Iterable[str] = (), aside: LeftAside | None = None
) -> Iterator[Input]:
    """The images of the sources; `-` stands for `lines`, each of which is a source of its own.

    `aside` is told of what is no image by its name, and knows all of it when the last image was taken.

    A source that isn't there raises DataError before anything is read. A line or a table's row that names nothing, and
    of several tables, archives and folders one that can't be read, become inputs that can't be read. Raises DataError,
    too, where the only source can't be read, and where the sources hold no image at all.
    """
    named = list(sources)
    if not named:
        raise DataError("no images were named; give images, folders, tables, archives, addresses, or - to read a list")
    for source in named:
        _require(source)
    told = aside or LeftAside()
    told.forget()
    return _some(named, _all(named, lines, told))


def count_inputs(sources: Iterable[str]) -> int | None:
    """How many images there will be, where that is cheap to know: not in lists, tables, archives and stores."""
    named = list(sources)
    if any(source == STANDARD_INPUT or is_remote(source) or _is_packed(source) for source in named):
        return None
    return sum(1 for _ in _all(named, (), LeftAside()))


def _some(named: list[str], inputs: Iterator[Input]) -> Iterator[Input]:
    found = False
    for one in inputs:
        found = True
        yield one
    if not found:
        places = ", ".join("standard input" if source == STANDARD_INPUT else source for source in named)
        raise DataError(f"no images in {places}; expected {', '.join(IMAGE_ENDINGS)} files")


def _all(sources: list[str], lines: Iterable[str], aside: LeftAside) -> Iterator[Input]:
    for source in sources:
        if source == STANDARD_INPUT:
            for line in lines:
                if path := line.rstrip("\r\n"):
                    yield from _told(path, _listed(path, aside))
        else:
            yield from _of(source, aside) if len(sources) == 1 else _told(source, _of(source, aside))


def _listed(path: str, aside: LeftAside) -> Iterator[Input]:
    """The images of a line; raises DataError where it names none."""
    _require_name(path)
    if _is_image(path) and not _PATTERN.search(path):
        # Taken at its word: a question for each of a million addresses would take longer than the images.
        tree, inside = _tree_of(path)
        yield Input(path, partial(tree.read, inside))
    else:
        yield from _of(path, aside)


def _told(name: str, inputs: Iterator[Input]) -> Iterator[Input]:
    """The inputs; what is wrong with them as a whole is told in a row, for much else may follow."""
    try:
        yield from inputs
    except DataError as problem:
        yield _unreadable(name, problem)


def _unreadable(name: str, problem: DataError) -> Input:
    return Input(_printable(name), partial(_fail, str(problem)))


def _require_name(path: str) -> None:
    if _printable(path) != path:
        raise DataError("no file can have this name; correct it in the list")


def _printable(name: str) -> str:
    """Without signs that neither a file's name nor a row can hold."""
    text = name.replace("\0", r"\x00")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _require(source: str) -> None:
    if source == STANDARD_INPUT or is_remote(source):
        return
    if LocalTree().kind(source) is None and not _PATTERN.search(source):
        raise DataError(f"{source}: no such file or folder; give images, folders, tables, archives or - for a list")


def _of(source: str, aside: LeftAside) -> Iterator[Input]:
    tree, path = _tree_of(source)
    kind = tree.kind(path)
    if kind == "folder":
        yield from _below(tree, path, aside)
    elif kind == "file":
        yield from _of_file(tree, path, aside)
    elif _PATTERN.search(path):
        for found, is_folder in _matching(tree, *_fixed_part(path)):
            yield from _below(tree, found, aside) if is_folder else _of_match(tree, found, aside)
    else:
        raise DataError(f"{source}: no such file or folder")


def _tree_of(source: str) -> tuple[Tree, str]:
    if not is_remote(source):
        return LocalTree(), source
    # In a web address a question mark is no pattern.
    pattern = None if source.startswith(("http://", "https://")) else _PATTERN.search(source)
    if pattern is None:
        folder, name = split_remote(source)
        return RemoteTree(folder), name
    # The store is asked for the folder above the first part with a sign.
    fixed = source[: source.rindex("/", 0, pattern.start())]
    folder, name = split_remote(fixed)
    return RemoteTree(folder), f"{name}{source[len(fixed) :]}"


def _of_file(tree: Tree, path: str, aside: LeftAside) -> Iterator[Input]:
    ending = _ending(path)
    if ending in TABLE_ENDINGS:
        yield from _of_table(tree, path, ending)
    elif ending in ARCHIVE_ENDINGS:
        yield from _of_archive(tree, path, ending, aside)
    else:
        yield Input(tree.named(path), partial(tree.read, path))


def _of_match(tree: Tree, path: str, aside: LeftAside) -> Iterator[Input]:
    """What a pattern meets by the way, such as a note, is left aside."""
    if _is_image(path) or _is_packed(path):
        yield from _told(tree.named(path), _of_file(tree, path, aside))
    else:
        aside.count(tree.named(path))


def _below(tree: Tree, folder: str, aside: LeftAside) -> Iterator[Input]:
    for name, is_folder in tree.entries(folder):
        path = _joined(folder, name)
        if is_folder:
            yield from _told(tree.named(path), _below(tree, path, aside))
        elif _is_image(name):
            yield Input(tree.named(path), partial(tree.read, path))
        else:
            aside.count(tree.named(path))


def _fixed_part(pattern: str) -> tuple[str, list[str]]:
    """The folder before the first part with a sign, and the parts from there on."""
    parts = pattern.split("/")
    first = next(place for place, part in enumerate(parts) if _PATTERN.search(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ""), parts[first:]


def _matching(tree: Tree, folder: str, parts: list[str]) -> Iterator[tuple[str, bool]]:
    """Paths that match, and whether they are folders; `**` stands for any number of folders, none among them."""
    if tree.kind(folder or ".") != "folder":
        return
    part, rest = parts[0], parts[1:]
    if part == "**" and rest:
        yield from _matching(tree, folder, rest)
    for name, is_folder in tree.entries(folder):
        path = _joined(folder, name)
        if part == "**":
            if not rest and not is_folder:
                yield path, False
            if is_folder:
                yield from _matching(tree, path, parts)
        elif fnmatch.fnmatchcase(name, part):
            if not rest:
                yield path, is_folder
            elif is_folder:
                yield from _matching(tree, path, rest)


def _of_table(tree: Tree, path: str, ending: str) -> Iterator[Input]:
    """Paths of the column `path`, relative to the table; whole paths and addresses stand as they are."""
    named = tree.named(path)
    folder = path.rpartition("/")[0]
    with _opened(tree, path) as stream:
        for number, value in enumerate(path_rows(stream, named, ending), start=1):
            name = value if isinstance(value, str) and value else f"{named}: row {number}"
            try:
                yield _of_row(tree, folder, value)
            except DataError as problem:
                yield _unreadable(name, problem)


def _of_row(tree: Tree, folder: str, value: Any) -> Input:
    """The image that the row names, taken at its word: a table of tables could name itself.

    Raises DataError where it names none.
    """
    if isinstance(value, DataError):
        raise value
    if value is None or value == "":
        raise DataError("has no path; fill it in or take the row out")
    path = str(value)
    _require_name(path)
    if is_remote(path):
        above, inside = split_remote(path)
        return Input(path, partial(RemoteTree(above).read, inside))
    is_whole = path.startswith("/") and isinstance(tree, LocalTree)
    inside = path if is_whole else _joined(folder, path)
    return Input(tree.named(inside), partial(tree.read, inside))


def _of_archive(tree: Tree, path: str, ending: str, aside: LeftAside) -> Iterator[Input]:
    named = tree.named(path)

    def is_wanted(name: str) -> bool:
        """Images of an archive, without hidden files and what macOS adds."""
        parts = PurePosixPath(name).parts
        if "__MACOSX" in parts or not all(_visible(part) for part in parts):
            return False
        if not _is_image(name):
            aside.count(f"{named}/{name}")
        return _is_image(name)

    with _opened(tree, path) as stream:
        members = (zip_members if ending == ".zip" else tar_members)(stream, is_wanted)
        try:
            for name, read in members:
                yield Input(f"{named}/{name}", read)
        except BrokenOff as problem:
            yield Input(named, partial(_fail, str(problem)))
        except DataError as problem:
            raise DataError(f"{named}: {problem}") from None


def _opened(tree: Tree, path: str) -> AbstractContextManager[BinaryIO]:
    try:
        return tree.open(path)
    except OSError as problem:
        raise DataError(f"{tree.named(path)}: can't be read: {problem.strerror or problem}") from None


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"the file has more than {MAX_FILE_BYTES:,} bytes")
    return content


def _fail(reason: str) -> bytes:
    raise DataError(reason)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS  # noqa: PTH122 - a million times


def _is_packed(name: str) -> bool:
    return _ending(name) in (*TABLE_ENDINGS, *ARCHIVE_ENDINGS)


def _ending(name: str) -> str:
    lower = name.lower()
    return next((ending for ending in (*TABLE_ENDINGS, *ARCHIVE_ENDINGS) if lower.endswith(ending)), "")


def _visible(name: str) -> bool:
    return not name.startswith(".") or name in (".", "..")


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name
