"""Folders of object stores, through fsspec's drivers."""

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Literal

from components.data.files.folders import FileListing, check_size
from components.shared.errors import DataError, ServiceError, nearest

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""The extra of our own package that installs a scheme's driver."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "az": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Where a driver looks for credentials, by the extra that installs it."""


class StoreFolder:
    """A folder of an object store; its methods raise ServiceError if the store fails."""

    def __init__(self, filesystem: Any, root: str, name: str) -> None:
        self.name = name
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def list_files(self) -> FileListing:
        """One listing of everything below, for a request per folder would take long over many small folders."""
        try:
            paths = self._ask(self._filesystem.find, self._root)
        except FileNotFoundError:
            raise self._missing_bucket() from None
        if not paths and self._lacks_bucket():
            raise self._missing_bucket()
        # Some stores hold an empty object in place of the folder itself; its name ends with a slash.
        below = [str(path)[len(self._root) :].lstrip("/") for path in paths if not str(path).endswith("/")]
        hidden = {path: _hidden_start(path) for path in below}
        return FileListing(
            sorted(path for path in below if path and not hidden[path]), len(set(hidden.values()) - {""})
        )

    def entries(self, path: str) -> list[tuple[str, bool]]:
        folder = f"{self._root}/{path}".rstrip("/")
        infos = self._ask(self._filesystem.ls, folder, detail=True)
        # Else the driver would cache the listings of all folders that were visited.
        self._filesystem.invalidate_cache(folder)
        entries = [(str(entry["name"]).strip("/"), entry["type"] == "directory") for entry in infos]
        # Some stores hold an empty object in place of the folder itself.
        return sorted((name.rpartition("/")[2], is_folder) for name, is_folder in entries if name != folder.strip("/"))

    def type_of(self, path: str) -> Literal["file", "folder"] | None:
        if self._ask(self._filesystem.isfile, f"{self._root}/{path}"):
            return "file"
        return "folder" if self._ask(self._filesystem.isdir, f"{self._root}/{path}") else None

    def problem_of(self, path: str) -> str | None:
        return None

    def is_unfollowed_link(self, path: str) -> bool:
        return False

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        return check_size(self._ask(self._filesystem.cat_file, f"{self._root}/{path}"), max_bytes)

    def read_range(self, path: str, offset: int, size_bytes: int) -> bytes:
        file = f"{self._root}/{path}"
        content: bytes = self._ask(self._filesystem.cat_file, file, start=offset, end=offset + size_bytes)
        return content

    def open(self, path: str) -> AbstractContextManager[BinaryIO]:
        stream: AbstractContextManager[BinaryIO] = self._ask(self._filesystem.open, f"{self._root}/{path}", "rb")
        return stream

    @property
    def _bucket(self) -> str:
        return self._root.lstrip("/").partition("/")[0]

    def _missing_bucket(self) -> DataError:
        return DataError(f"{self.name}: the store has no bucket {self._bucket}; check the address")

    def _lacks_bucket(self) -> bool:
        """Some stores list a missing bucket as if it were empty."""
        try:
            self._filesystem.ls(self._bucket)
        except FileNotFoundError:
            return True
        except Exception:
            pass  # credentials that may list the folder need not be allowed to list the whole bucket
        return False

    def _ask(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except FileNotFoundError:
            raise
        # Each driver has its own errors; a store that fails must not look like broken files.
        except Exception as problem:
            raise _service_error(self.name, problem) from None


def is_address(location: str) -> bool:
    return "://" in location


def is_store_address(location: str) -> bool:
    """Whether it is the address of an object store; other addresses, such as file://, could lead anywhere."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme in _EXTRAS


def open_store(address: str) -> StoreFolder:
    return StoreFolder(*_filesystem_of(address), address)


def open_parent(address: str) -> tuple[StoreFolder, str]:
    """The folder that holds what has this address, and its name in there."""
    filesystem, path = _filesystem_of(address)
    parent, _, name = path.rstrip("/").rpartition("/")
    return StoreFolder(filesystem, parent, address.rstrip("/").rpartition("/")[0]), name


def _filesystem_of(address: str) -> tuple[Any, str]:
    import fsspec
    from fsspec.registry import known_implementations

    _silence_drivers()
    scheme = address.partition("://")[0]
    if scheme not in fsspec.available_protocols():
        remedy = nearest(scheme, known_implementations) or "; give a path, or an address such as s3://bucket/folder"
        raise DataError(f"{address}: {scheme}:// is no known type of store{remedy}")
    try:
        filesystem, path = fsspec.url_to_fs(address)
    except ImportError:
        extra = _EXTRAS.get(scheme)
        remedy = f"pip install 'darkroom[{extra}]'" if extra else known_implementations[scheme].get("err", "")
        raise DataError(f"{address}: the driver for {scheme}:// is not installed; {remedy}") from None
    except Exception as problem:
        raise _service_error(address, problem) from None
    return filesystem, path


def _silence_drivers() -> None:
    """Drivers log each attempt, with tracebacks; our own error reports the last one."""
    for driver in ("gcsfs", "google.auth", "azure"):
        logging.getLogger(driver).setLevel(logging.CRITICAL)
    # If the credentials may not ask for the type of a bucket, the driver of gs:// would ask, and log, for each image.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


def _service_error(address: str, problem: Exception) -> ServiceError:
    # Some stores put the whole response behind the first line.
    reason = str(problem).strip().partition("\n")[0].strip() or type(problem).__name__
    variables = _CREDENTIALS.get(_EXTRAS.get(address.partition("://")[0], ""))
    credentials = f"the credentials ({variables})" if variables else "the credentials"
    return ServiceError(f"{address}: {reason}; check the address, the network and {credentials}")


def _hidden_start(path: str) -> str:
    """The path up to its first hidden step; empty if none is hidden."""
    steps = path.split("/")
    return next(("/".join(steps[: index + 1]) for index, step in enumerate(steps) if step.startswith(".")), "")
