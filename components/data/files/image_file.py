"""An image file and how to get its bytes; the scoring server needs no more than this module."""

from collections.abc import Callable
from dataclasses import dataclass

from components.shared.errors import DataError


@dataclass(frozen=True)
class ImageFile:
    name: str
    """Name in the prediction table: a path, an address, or archive.zip/path/inside."""
    read: Callable[[], bytes]
    """Returns the file's bytes. Raises OSError or DataError if this file is at fault, ServiceError if its store is."""


def unreadable(reason: str) -> Callable[[], bytes]:
    """The `read` of a file of which only the reason is known why it can't be read."""

    def read() -> bytes:
        raise DataError(reason)

    return read
