"""A cache of decoded training images, shared by all trainings and processes of a run on one machine.

The first process that needs an image decodes it into a file, which all others map. The last process removes the file.
Why both JPEGs and this cache exist: docs/adr/0013. Shapes: N images, S side in pixels, C channels.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.packed.image_stores import JpegStore, checked_row
from components.data.packed.loaders import PackedSplit
from components.data.packed.shared_file import RefCountedFile

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def decoded_once(split: PackedSplit, file: Path) -> Iterator[PackedSplit]:
    """The split, whose JPEG images are decoded at most once while any process uses the file.

    If the disk is too small, that is logged, and images are decoded on each access. The pixels are equal either way.
    """
    store = split.pixels_NHWC
    if not isinstance(store, JpegStore):
        yield split
        return
    uncached = "JPEG training images are decoded again in each epoch"
    try:
        shared = RefCountedFile(file)
    except OSError as problem:
        logger.info(f"{uncached}: {file} can't be shared between processes ({problem.strerror})")
        yield split
        return
    try:
        needed, free = _missing_bytes(store, file), shutil.disk_usage(file.parent).free
        if needed > free:
            logger.info(
                f"{uncached}: their cache needs {needed / 1e9:.3g} GB in {file.parent}, where {free / 1e9:.3g} GB "
                "are free"
            )
            yield split
            return
        cached = DecodedOnce(store, file)
        try:
            yield replace(split, pixels_NHWC=cached)
        finally:
            cached.close()
    finally:
        shared.release()


def _missing_bytes(store: JpegStore, file: Path) -> int:
    """Bytes by which the sparse file will still grow."""
    return int(np.prod(store.shape)) + len(store) - 512 * file.stat().st_blocks


class DecodedOnce:
    """A JPEG store whose images are cached in a file from their first access.

    All processes that unpickle it map the same file: N images, then N bytes that flag which images are present. On a
    full disk, missing images are decoded again: that costs time only.
    """

    def __init__(self, store: JpegStore, file: Path) -> None:
        self._store, self._file = store, file
        count = len(store)
        self._square_bytes = int(np.prod(store.shape[1:]))
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._handle, count * (self._square_bytes + 1))
        # Both are views of the file, and show what any process writes.
        whole = np.asarray(np.memmap(file, np.uint8, mode="r"))
        self._pixels_NSSC = whole[: count * self._square_bytes].reshape(store.shape)
        self._is_present_N = whole[count * self._square_bytes :]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._store.shape

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, int | np.integer):
            return self._square(checked_row(int(rows), len(self)))
        row_B = np.arange(len(self))[rows]
        if self._is_present_N[row_B].all():
            cached: NDArray[np.uint8] = self._pixels_NSSC[row_B]
            return cached
        images = np.empty((len(row_B), *self.shape[1:]), np.uint8)
        for index, row in enumerate(row_B.tolist()):
            images[index] = self._square(row)
        return images

    def __reduce__(self) -> Any:
        return DecodedOnce, (self._store, self._file)

    def close(self) -> None:
        """Closes the file; images that were read stay valid."""
        os.close(self._handle)

    def _square(self, row: int) -> NDArray[np.uint8]:
        if self._is_present_N[row]:
            present: NDArray[np.uint8] = self._pixels_NSSC[row]
            return present
        square = self._store[row]
        try:
            # Pixels first: a process that sees the flag must find them.
            written = os.pwrite(self._handle, np.ascontiguousarray(square).data, row * self._square_bytes)
            if written == self._square_bytes:
                os.pwrite(self._handle, b"\1", len(self) * self._square_bytes + row)
        except OSError:
            pass
        return square
