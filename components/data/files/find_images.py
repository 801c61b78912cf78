"""The image files that the sources of a prediction name: folders, globs, tables, archives, addresses and lists.

Nothing is listed as a whole: a folder is read one level at a time, a table one block, a tar archive one member, a list
one line. (A zip archive's own index is read.) Folders come in order of names, archives and tables in their own order,
so that the same sources name the same images in the same order again.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from components.data.files.archives import ARCHIVE_EXTENSIONS, CutShort, archive_members, is_hidden_member
from components.data.files.folders import (
    WILDCARD,
    Folder,
    LocalFolder,
    is_image,
    join,
    match_pattern,
    visible_entries,
)
from components.data.files.image_file import ImageFile, unreadable
from components.data.files.object_stores import is_address, open_parent
from components.data.files.path_tables import TABLE_EXTENSIONS, read_paths
from components.data.images.decoding import IMAGE_ENDINGS
from components.shared.errors import DataError

STANDARD_INPUT = "-"
MAX_FILE_BYTES = 2**30
"""A larger file is no photograph."""
_MAX_EXAMPLES = 3
_LOCAL = LocalFolder("")


@dataclass
class IgnoredFiles:
    """Files in folders, globs and archives whose names don't end like those of images."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    """Names of the first of them."""

    def add(self, name: str) -> None:
        self.count += 1
        if self.count <= _MAX_EXAMPLES:
            self.examples.append(name)

    def clear(self) -> None:
        self.count, self.examples = 0, []


def find_images(
    sources: Iterable[str], *, lines: Iterable[str] = (), ignored: IgnoredFiles | None = None
) -> Iterator[ImageFile]:
    """The images of the sources in order; `-` stands for `lines`, each of which is a source of its own.

    `ignored` is complete once the last image was taken.

    A missing source raises DataError before anything is read. If it is one of several sources, a table, archive or
    folder that can't be read becomes an image that can't be read, and so does a line or a table's row that names
    nothing. An only source that can't be read raises DataError, and so do sources without any image.
    """
    sources = list(sources)
    if not sources:
        raise DataError("no images were named; give images, folders, tables, archives, addresses, or - to read a list")
    for source in sources:
        _require_existing(source)
    ignored = ignored or IgnoredFiles()
    ignored.clear()
    return _at_least_one(_images_of_all(sources, lines, ignored), sources)


def count_images(sources: Iterable[str]) -> int | None:
    """Number of images, if it is quick to know; None for lists, tables, archives and stores."""
    sources = list(sources)
    if any(source == STANDARD_INPUT or is_address(source) or _holds_images(source) for source in sources):
        return None
    return sum(1 for _ in _images_of_all(sources, (), IgnoredFiles()))


def _at_least_one(images: Iterator[ImageFile], sources: list[str]) -> Iterator[ImageFile]:
    num_images = 0
    for num_images, image in enumerate(images, start=1):  # noqa: B007
        yield image
    if num_images == 0:
        named = ", ".join("standard input" if source == STANDARD_INPUT else source for source in sources)
        raise DataError(f"no images in {named}; expected {', '.join(IMAGE_ENDINGS)} files")


def _images_of_all(sources: list[str], lines: Iterable[str], ignored: IgnoredFiles) -> Iterator[ImageFile]:
    for source in sources:
        if source == STANDARD_INPUT:
            for path in filter(None, (line.rstrip("\r\n") for line in lines)):
                yield from _error_as_image(path, _images_of_line(path, ignored))
        elif len(sources) == 1:
            yield from _images_of(source, ignored)
        else:
            yield from _error_as_image(source, _images_of(source, ignored))


def _images_of_line(path: str, ignored: IgnoredFiles) -> Iterator[ImageFile]:
    _require_valid_name(path)
    if is_image(path) and not WILDCARD.search(path):
        # Not looked for: asking a store about each of a million addresses would take longer than the images.
        folder, inside = _open(path)
        yield ImageFile(path, partial(folder.read, inside, max_bytes=MAX_FILE_BYTES))
    else:
        yield from _images_of(path, ignored)


def _images_of(source: str, ignored: IgnoredFiles) -> Iterator[ImageFile]:
    folder, path = _open(source)
    found_type = folder.type_of(path)
    if found_type == "folder":
        yield from _images_below(folder, path, ignored)
    elif found_type == "file":
        yield from _images_in_file(folder, path, ignored)
    elif WILDCARD.search(path):
        for match, is_folder in match_pattern(folder, path):
            if is_folder:
                yield from _images_below(folder, match, ignored)
            elif is_image(match) or _holds_images(match):
                yield from _error_as_image(join(folder.name, match), _images_in_file(folder, match, ignored))
            else:
                ignored.add(join(folder.name, match))
    else:
        raise DataError(f"{source}: no such file or folder")


def _open(source: str) -> tuple[Folder, str]:
    """The folder to look in, and the source's path or glob pattern in there."""
    if not is_address(source):
        return _LOCAL, source
    # In a web address a question mark is no wildcard.
    wildcard = None if source.startswith(("http://", "https://")) else WILDCARD.search(source)
    if wildcard is None:
        return open_parent(source)
    fixed = source[: source.rindex("/", 0, wildcard.start())]
    folder, name = open_parent(fixed)
    return folder, f"{name}{source[len(fixed) :]}"


def _images_below(folder: Folder, path: str, ignored: IgnoredFiles) -> Iterator[ImageFile]:
    for below, is_folder in visible_entries(folder, path):
        if is_folder:
            yield from _error_as_image(join(folder.name, below), _images_below(folder, below, ignored))
        elif is_image(below):
            yield _image(folder, below)
        else:
            ignored.add(join(folder.name, below))


def _images_in_file(folder: Folder, path: str, ignored: IgnoredFiles) -> Iterator[ImageFile]:
    if _extension(path, TABLE_EXTENSIONS):
        return _images_of_table(folder, path)
    if _extension(path, ARCHIVE_EXTENSIONS):
        return _images_of_archive(folder, path, ignored)
    return iter([_image(folder, path)])


def _images_of_table(folder: Folder, table: str) -> Iterator[ImageFile]:
    """The images in the column `path`: paths relative to the table, absolute paths, or addresses."""
    name = join(folder.name, table)
    with _open_file(folder, table) as stream:
        for number, value in enumerate(read_paths(stream, name, _extension(table, TABLE_EXTENSIONS)), start=1):
            try:
                yield _image_of_row(folder, table.rpartition("/")[0], value)
            except DataError as problem:
                yield _unreadable(value if isinstance(value, str) and value else f"{name}: row {number}", problem)


def _image_of_row(folder: Folder, table_folder: str, value: Any) -> ImageFile:
    """An image even if the path is that of a table or folder, for a table of tables could name itself."""
    if isinstance(value, DataError):
        raise value
    if value is None or value == "":
        raise DataError("the row has no path; fill it in or remove the row")
    path = str(value)
    _require_valid_name(path)
    if is_address(path):
        parent, name = open_parent(path)
        return ImageFile(path, partial(parent.read, name, max_bytes=MAX_FILE_BYTES))
    is_absolute = path.startswith("/") and folder is _LOCAL
    return _image(folder, path if is_absolute else join(table_folder, path))


def _images_of_archive(folder: Folder, archive: str, ignored: IgnoredFiles) -> Iterator[ImageFile]:
    name = join(folder.name, archive)

    def is_wanted(member: str) -> bool:
        if is_hidden_member(member):
            return False
        if not is_image(member):
            ignored.add(f"{name}/{member}")
        return is_image(member)

    with _open_file(folder, archive) as stream:
        try:
            for member, read in archive_members(stream, archive, is_wanted):
                yield ImageFile(f"{name}/{member}", read)
        except CutShort as problem:
            yield _unreadable(name, problem)
        except DataError as problem:
            raise DataError(f"{name}: {problem}") from None


def _open_file(folder: Folder, path: str) -> AbstractContextManager[BinaryIO]:
    try:
        return folder.open(path)
    except OSError as problem:
        raise DataError(f"{join(folder.name, path)}: can't be read: {problem.strerror or problem}") from None


def _image(folder: Folder, path: str) -> ImageFile:
    return ImageFile(join(folder.name, path), partial(folder.read, path, max_bytes=MAX_FILE_BYTES))


def _error_as_image(name: str, images: Iterator[ImageFile]) -> Iterator[ImageFile]:
    """The images; if they can't be listed to the end, an unreadable one with the reason, for other sources follow."""
    try:
        yield from images
    except DataError as problem:
        yield _unreadable(name, problem)


def _unreadable(name: str, problem: DataError) -> ImageFile:
    return ImageFile(_printable(name), unreadable(str(problem)))


def _require_existing(source: str) -> None:
    if source == STANDARD_INPUT or is_address(source) or WILDCARD.search(source):
        return
    if _LOCAL.type_of(source) is None:
        raise DataError(f"{source}: no such file or folder; give images, folders, tables, archives or - for a list")


def _require_valid_name(path: str) -> None:
    if _printable(path) != path:
        raise DataError("no file can have this name; correct it in the list")


def _printable(name: str) -> str:
    """The name without characters that neither a file name nor a row can hold."""
    text = name.replace("\0", r"\x00")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _holds_images(name: str) -> bool:
    return _extension(name, (*TABLE_EXTENSIONS, *ARCHIVE_EXTENSIONS)) != ""


def _extension(name: str, extensions: tuple[str, ...]) -> str:
    """The one that the name has; empty if it has none of them."""
    lower = name.lower()
    return next((extension for extension in extensions if lower.endswith(extension)), "")
