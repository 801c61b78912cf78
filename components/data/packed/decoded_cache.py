"""Training images that lie as JPEG, decoded once for all trainings and processes of a run on one machine.

The first that needs a square decodes it and keeps it in a file, which all others map. The file goes with the last
process that holds it. Letters: N images, S side in pixels, C channels.
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

from components.data.packed.loaders import PackedSplit
from components.data.packed.shared_file import RefCountedFile
from components.data.packed.stores import JpegStore, checked_row

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def decoded_once(split: PackedSplit, file: Path) -> Iterator[PackedSplit]:
    """The split, of which no image is decoded twice as long as anyone holds the file, in whatever epoch or process.

    Where its disk lacks the room, that is logged, and JPEG images are decoded whenever they are read. What is read is
    the same either way.
    """
    store = split.pixels_NHWC
    if not isinstance(store, JpegStore):
        yield split
        return
    uncached = "JPEG training images are decoded again in each epoch"
    try:
        held = RefCountedFile(file)
    except OSError as problem:
        logger.info(f"{uncached}: {file} can't be shared between processes ({problem.strerror})")
        yield split
        return
    try:
        needed, free = _bytes_lacking(store, file), shutil.disk_usage(file.parent).free
        if needed > free:
            logger.info(
                f"{uncached}: their cache needs {needed / 1e9:.3g} GB in {file.parent}, where {free / 1e9:.3g} GB "
                "are free"
            )
            yield split
            return
        kept = DecodedOnce(store, file)
        try:
            yield replace(split, pixels_NHWC=kept)
        finally:
            kept.close()
    finally:
        held.release()


def _bytes_lacking(store: JpegStore, file: Path) -> int:
    """What the file will still grow by: it has holes where squares are not there yet."""
    return int(np.prod(store.shape)) + len(store) - 512 * file.stat().st_blocks


class DecodedOnce:
    """A JPEG store whose squares are kept in a file from the first time that they are asked for.

    All processes that unpickle it map the same file: N squares, then N bytes that say which of them are there. What is
    read is the same bytes either way. A disk that takes no more costs time only: what it lacks is decoded again.
    """

    def __init__(self, store: JpegStore, file: Path) -> None:
        self._store, self._file = store, file
        count = len(store)
        self._square_bytes = int(np.prod(store.shape[1:]))
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._handle, count * (self._square_bytes + 1))
        # Both are views of the file as it grows: what any process writes shows in them.
        whole = np.asarray(np.memmap(file, np.uint8, mode="r"))
        self._pixels_NSSC = whole[: count * self._square_bytes].reshape(store.shape)
        self._is_there_N = whole[count * self._square_bytes :]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._store.shape

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, int | np.integer):
            return self._square(checked_row(int(rows), len(self)))
        row_B = np.arange(len(self))[rows]
        if self._is_there_N[row_B].all():
            kept: NDArray[np.uint8] = self._pixels_NSSC[row_B]
            return kept
        images = np.empty((len(row_B), *self.shape[1:]), np.uint8)
        for place, row in enumerate(row_B.tolist()):
            images[place] = self._square(row)
        return images

    def __reduce__(self) -> Any:
        return DecodedOnce, (self._store, self._file)

    def close(self) -> None:
        """Closes the file; what was read stays readable."""
        os.close(self._handle)

    def _square(self, row: int) -> NDArray[np.uint8]:
        if self._is_there_N[row]:
            there: NDArray[np.uint8] = self._pixels_NSSC[row]
            return there
        square = self._store[row]
        try:
            # The pixels first: whoever sees the mark finds them.
            written = os.pwrite(self._handle, np.ascontiguousarray(square).data, row * self._square_bytes)
            if written == self._square_bytes:
                os.pwrite(self._handle, b"\1", len(self) * self._square_bytes + row)
        except OSError:
            pass
        return square
