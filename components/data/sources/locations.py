"""Where a source's files lie: a folder of this machine, or an object store through fsspec."""

import logging
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from components.data.images.decoding import IMAGE_ENDINGS
from components.shared.errors import DataError, ServiceError, nearest

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""The extra of our own package that brings a scheme's driver."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "az": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Where a driver looks for credentials, by the extra that brings it."""


@dataclass(frozen=True)
class Listing:
    paths: list[str]
    """In order, without hidden ones."""
    num_hidden: int
    """Hidden files, and hidden folders with all that they hold."""


class Place(Protocol):
    """A folder, whose files are named by their path in it, with forward slashes."""

    name: str

    def files(self) -> Listing:
        """The files below."""
        ...

    def problem_of(self, path: str) -> str | None:
        """Why the file can't be an image of the data set, as far as one knows without reading it."""
        ...

    def is_unfollowed(self, path: str) -> bool:
        """Whether the path is a link to a folder, or to nothing: what lies behind it is not listed."""
        ...

    def reader(self, path: str) -> Callable[[], bytes]: ...

    def read_range(self, path: str, offset: int, size_bytes: int) -> bytes: ...

    def open(self, path: str) -> AbstractContextManager[BinaryIO]: ...


class LocalFolder:
    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root
        self._real_root = os.path.realpath(root)
        self._inside: dict[str, bool] = {}

    def files(self) -> Listing:
        """A link to a folder counts as a file, for it isn't followed."""
        found, num_hidden = [], 0
        start = len(str(self._root)) + 1
        for folder, folders, files in os.walk(str(self._root), onerror=_raise):
            num_hidden += sum(name.startswith(".") for name in folders + files)
            links = [name for name in folders if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114 - a million times
            folders[:] = [name for name in folders if name not in links and not name.startswith(".")]
            within = folder[start:].replace(os.sep, "/")
            found += [f"{within}/{name}" if within else name for name in files + links if not name.startswith(".")]
        return Listing(sorted(found), num_hidden)

    def problem_of(self, path: str) -> str | None:
        # Called for each of maybe millions of files: one lstat, and more only for links.
        file = f"{self._root}/{path}"
        if not self._folder_is_inside(file.rpartition("/")[0]):
            return "a link that leads out of the data folder"
        try:
            mode = os.lstat(file).st_mode
            if stat.S_ISLNK(mode):
                if not self._is_inside(os.path.realpath(file)):
                    return "a link that leads out of the data folder"
                mode = os.stat(file).st_mode  # noqa: PTH116
        except FileNotFoundError:
            return "a link that leads nowhere" if os.path.islink(file) else "the file is missing"  # noqa: PTH114
        except OSError as problem:
            return f"can't be read: {problem.strerror}"
        return wrong_ending(path) if stat.S_ISREG(mode) else "not a plain file"

    def is_unfollowed(self, path: str) -> bool:
        file = self._root / path
        return file.is_symlink() and not file.is_file()

    def reader(self, path: str) -> Callable[[], bytes]:
        return partial(_read_file, f"{self._root}/{path}")

    def read_range(self, path: str, offset: int, size_bytes: int) -> bytes:
        with self.open(path) as stream:
            stream.seek(offset)
            return stream.read(size_bytes)

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        return (self._root / path).open("rb")

    def _folder_is_inside(self, folder: str) -> bool:
        # Thousands of files share a folder: its links are followed once.
        if folder not in self._inside:
            self._inside[folder] = self._is_inside(os.path.realpath(folder))
        return self._inside[folder]

    def _is_inside(self, real: str) -> bool:
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)


class RemoteFolder:
    """A folder of an object store; raises ServiceError where the store doesn't answer as it should."""

    def __init__(self, filesystem: Any, root: str, name: str) -> None:
        self.name = name
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def files(self) -> Listing:
        try:
            found = self._ask(self._filesystem.find, self._root)
        except FileNotFoundError:
            raise self._no_bucket() from None
        if not found and self._lacks_bucket():
            raise self._no_bucket()
        # Some stores hold an empty object in place of the folder itself; its name ends with a slash.
        below = [str(path)[len(self._root) :].lstrip("/") for path in found if not str(path).endswith("/")]
        hidden = {path: _hidden_start(path) for path in below}
        return Listing(sorted(path for path in below if path and not hidden[path]), len(set(hidden.values()) - {""}))

    def kind(self, path: str) -> str | None:
        """file, folder, or None where there is nothing."""
        whole = f"{self._root}/{path}"
        if self._ask(self._filesystem.isfile, whole):
            return "file"
        return "folder" if self._ask(self._filesystem.isdir, whole) else None

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """Names in one folder and whether each is a folder, in order; the store's answer is not kept."""
        whole = f"{self._root}/{folder}".rstrip("/")
        found = self._ask(self._filesystem.ls, whole, detail=True)
        self._filesystem.invalidate_cache(whole)
        paths = [(str(entry["name"]).strip("/"), entry["type"] == "directory") for entry in found]
        # Some stores hold an empty object in place of the folder itself.
        below = [(path.rpartition("/")[2], is_folder) for path, is_folder in paths if path != whole.strip("/")]
        return sorted(below)

    def problem_of(self, path: str) -> str | None:
        return wrong_ending(path)

    def is_unfollowed(self, path: str) -> bool:
        return False

    def reader(self, path: str) -> Callable[[], bytes]:
        return partial(self._ask, self._filesystem.cat_file, f"{self._root}/{path}")

    def read_range(self, path: str, offset: int, size_bytes: int) -> bytes:
        content: bytes = self._ask(
            self._filesystem.cat_file, f"{self._root}/{path}", start=offset, end=offset + size_bytes
        )
        return content

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        stream: AbstractContextManager[BinaryIO] = self._ask(self._filesystem.open, f"{self._root}/{path}", "rb")
        return stream

    @property
    def _bucket(self) -> str:
        return self._root.lstrip("/").partition("/")[0]

    def _no_bucket(self) -> DataError:
        return DataError(f"{self.name}: the store has no bucket {self._bucket}; check the address")

    def _lacks_bucket(self) -> bool:
        """Some stores list a bucket that isn't there as if it were empty."""
        try:
            self._filesystem.ls(self._bucket)
        except FileNotFoundError:
            return True
        except Exception:
            pass  # who may list the folder need not be allowed to list all of the bucket
        return False

    def _ask(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except FileNotFoundError:
            raise
        # Each store has errors of its own; a store that fails must not look like files that are broken.
        except Exception as problem:
            raise _service_error(self.name, problem) from None


def refuse_unfollowed(place: Place, path: str) -> None:
    """Raises DataError where the path hides what may be a class, a split or a shard behind a link."""
    if place.is_unfollowed(path):
        raise DataError(
            f"{place.name}: {path} is a link to a folder or to nothing, which is not followed; put the folder itself "
            "there, or remove the link"
        )


def refuse_untaken(place: Place, path: str) -> None:
    """Raises DataError for a shard that an image would be quarantined for: what it holds can't be listed."""
    if (problem := place.problem_of(path)) != wrong_ending(path):
        raise DataError(f"{place.name}: {path}: {problem}; put the shard itself there, or remove it")


def is_remote(location: str) -> bool:
    return "://" in location


def is_store_address(text: str) -> bool:
    """Of a store that holds objects; other addresses, such as file://, could lead anywhere."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme in _EXTRAS


def split_remote(location: str) -> tuple[RemoteFolder, str]:
    """The folder above the location in its store, and the location's own name in it."""
    filesystem, path = _filesystem_of(location)
    above, _, name = path.rstrip("/").rpartition("/")
    return RemoteFolder(filesystem, above, location.rstrip("/").rpartition("/")[0]), name


def remote_folder(location: str) -> RemoteFolder:
    return RemoteFolder(*_filesystem_of(location), location)


def _filesystem_of(location: str) -> tuple[Any, str]:
    import fsspec
    from fsspec.registry import known_implementations

    # Where the kind of a bucket may not be asked for, the driver of gs:// would ask, and complain, with each image.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for driver in ("gcsfs", "google.auth", "azure"):
        # They log each attempt, with tracebacks; what ends the last one is told in our sentence.
        logging.getLogger(driver).setLevel(logging.CRITICAL)
    scheme = location.partition("://")[0]
    if scheme not in fsspec.available_protocols():
        remedy = nearest(scheme, known_implementations) or "; give a path, or an address such as s3://bucket/folder"
        raise DataError(f"{location}: {scheme}:// is no known kind of store{remedy}")
    try:
        filesystem, path = fsspec.url_to_fs(location)
    except ImportError:
        extra = _EXTRAS.get(scheme)
        remedy = f"pip install 'darkroom[{extra}]'" if extra else known_implementations[scheme].get("err", "")
        raise DataError(f"{location}: the driver for {scheme}:// is not installed; {remedy}") from None
    except Exception as problem:
        raise _service_error(location, problem) from None
    return filesystem, path


def _service_error(location: str, problem: Exception) -> ServiceError:
    # Behind the first line some stores send the whole answer.
    said = str(problem).strip().partition("\n")[0].strip() or type(problem).__name__
    where = _CREDENTIALS.get(_EXTRAS.get(location.partition("://")[0], ""))
    credentials = f"the credentials ({where})" if where else "the credentials"
    return ServiceError(f"{location}: {said}; check the address, the network and {credentials}")


def _hidden_start(path: str) -> str:
    """The path up to its first hidden step; empty where none is hidden."""
    steps = path.split("/")
    return next(("/".join(steps[: at + 1]) for at, step in enumerate(steps) if step.startswith(".")), "")


def wrong_ending(path: str) -> str | None:
    ending = os.path.splitext(path)[1]  # noqa: PTH122 - a million times
    return (
        None
        if ending.lower() in IMAGE_ENDINGS
        else f"the ending {ending or '(none)'} is of no image format that is read"
    )


def _read_file(file: str) -> bytes:
    with open(file, "rb") as stream:  # noqa: PTH123 - a million times
        return stream.read()


def _raise(problem: OSError) -> None:
    raise DataError(f"{problem.filename}: can't be listed: {problem.strerror}; make it readable") from None
