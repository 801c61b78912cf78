"""A zip archive as a folder of files, read where it is, without unpacking it."""

import posixpath
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

from components.data.files.archives import MAX_MEMBER_BYTES, is_hidden_member, open_zip, read_zip_member
from components.data.files.folders import MISSING, FileListing, check_size, is_image
from components.data.files.path_tables import TABLE_EXTENSIONS
from components.shared.errors import DataError

ZIP_EXTENSION = ".zip"


class ZipFolder:
    """The files of the archive; folders that do nothing but hold the data set are left out of their paths."""

    def __init__(self, file: Path) -> None:
        """Raises DataError for what is no zip archive, or whose members lead out of it."""
        self.name = str(file)
        try:
            self._archive = open_zip(file)
        except DataError as problem:
            raise DataError(f"{file}: {problem}") from None
        members = {one.filename: one for one in self._archive.infolist() if not one.is_dir()}
        for name in members:
            if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
                raise DataError(f"{file}: {name!r} isn't a path inside the archive; pack it again")
        hidden = [name for name in members if is_hidden_member(name)]
        start = _wrapping_folder(sorted(members.keys() - set(hidden)))
        self._members = {name.removeprefix(start): one for name, one in members.items() if name not in hidden}
        self._num_hidden = len(hidden)

    def list_files(self) -> FileListing:
        return FileListing(sorted(self._members), self._num_hidden)

    def entries(self, path: str) -> list[tuple[str, bool]]:
        below = [name.removeprefix(f"{path}/") for name in self._members if not path or name.startswith(f"{path}/")]
        return sorted({(name.partition("/")[0], "/" in name) for name in below})

    def type_of(self, path: str) -> Literal["file", "folder"] | None:
        if path in self._members:
            return "file"
        return "folder" if any(name.startswith(f"{path}/") for name in self._members) else None

    def problem_of(self, path: str) -> str | None:
        if path not in self._members:
            return MISSING
        size_bytes = self._members[path].file_size
        return f"unpacks to {size_bytes:,} bytes; unpack the archive" if size_bytes > MAX_MEMBER_BYTES else None

    def is_unfollowed_link(self, path: str) -> bool:
        return False

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        if path not in self._members:
            raise FileNotFoundError(path)
        return check_size(read_zip_member(self._archive, self._members[path]), max_bytes)

    def read_range(self, path: str, offset: int, size_bytes: int) -> bytes:
        return self.read(path)[offset : offset + size_bytes]

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        return cast(AbstractContextManager[BinaryIO], self._archive.open(self._members[path]))


def _wrapping_folder(paths: list[str]) -> str:
    """The start of the paths of all images and tables, but not the one folder of all images: it may be a class."""
    folders = {path.rpartition("/")[0] for path in paths if is_image(path)}
    if len(folders) == 1:
        folders = {folder.rpartition("/")[0] for folder in folders}
    folders |= {path.rpartition("/")[0] for path in paths if path.lower().endswith(TABLE_EXTENSIONS)}
    common = posixpath.commonpath(folders) if folders else ""
    return f"{common}/" if common else ""
