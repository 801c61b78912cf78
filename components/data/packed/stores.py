"""The images of a split in few large files that a loader maps into memory.

train-00000.npy    uint8 [n, S, S, 3]: decoded squares, an ordinary NumPy file
train-00000.jpegs  the same squares as JPEG files one after the other; where each lies stands in the index

A file holds at most SHARD_BYTES, so that a million images are few files. Letters: N images, S side in pixels.
"""

import io
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

Store = Literal["pixels", "jpeg"]
Rows = slice | NDArray[Any] | list[int]

SHARD_BYTES = 2**30
JPEG_QUALITY = 95
"""With full colour resolution: 41, 43 and 44 dB on photographs of clothes at 64, 128 and 224 px."""


class Place(NamedTuple):
    """Where an image lies; offset and size_bytes are null among pixels, where the row alone says it."""

    shard: int
    offset: int | None
    size_bytes: int | None


class ImageRows(Protocol):
    """The images of a split; indexed like an array [N, S, S, 3], but read only where it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]: ...


class PixelWriter:
    """Appends decoded squares; each file's header is written first, for the count is known."""

    def __init__(self, folder: Path, split: str, *, count: int, side_px: int, first_shard: int) -> None:
        self._folder, self._split, self._side = folder, split, side_px
        self._left, self._room = count, 0
        self._stream: BinaryIO | None = None
        self.next_shard = first_shard

    def append(self, block_NSSC: NDArray[np.uint8]) -> list[Place]:
        places = []
        while len(block_NSSC):
            stream = self._stream if self._stream and self._room else self._new_shard()
            now, block_NSSC = block_NSSC[: self._room], block_NSSC[self._room :]
            stream.write(np.ascontiguousarray(now).data)
            self._room -= len(now)
            places += [Place(self.next_shard - 1, None, None)] * len(now)
        return places

    def close(self) -> None:
        if self._stream:
            self._stream.close()

    def _new_shard(self) -> BinaryIO:
        self.close()
        self._stream = (self._folder / f"{self._split}-{self.next_shard:05d}.npy").open("wb")
        self._room = min(max(1, SHARD_BYTES // (3 * self._side**2)), self._left)
        self._left -= self._room
        self.next_shard += 1
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._room, self._side, self._side, 3)}
        np.lib.format.write_array_header_1_0(self._stream, header)
        return self._stream


class JpegWriter:
    """Appends squares as JPEG files one after the other."""

    def __init__(self, folder: Path, split: str, *, first_shard: int) -> None:
        self._folder, self._split = folder, split
        self._stream: BinaryIO | None = None
        self.next_shard = first_shard

    def append(self, block_NSSC: NDArray[np.uint8]) -> list[Place]:
        return [self._append(_to_jpeg(square_SSC)) for square_SSC in block_NSSC]

    def close(self) -> None:
        if self._stream:
            self._stream.close()

    def _append(self, content: bytes) -> Place:
        if self._stream is None or self._stream.tell() + len(content) > SHARD_BYTES:
            self.close()
            self._stream = (self._folder / f"{self._split}-{self.next_shard:05d}.jpegs").open("wb")
            self.next_shard += 1
        place = Place(self.next_shard - 1, self._stream.tell(), len(content))
        self._stream.write(content)
        return place


def new_writer(
    store: Store, folder: Path, split: str, *, count: int, side_px: int, first_shard: int
) -> PixelWriter | JpegWriter:
    if store == "pixels":
        return PixelWriter(folder, split, count=count, side_px=side_px, first_shard=first_shard)
    return JpegWriter(folder, split, first_shard=first_shard)


def open_images(folder: Path, split: str, places: pa.Table, *, side_px: int) -> ImageRows:
    """The images of a split, given the columns shard, offset and size_bytes of its index."""
    if places["offset"].null_count:
        return PixelStore(folder, split)
    columns = {name: places[name].to_numpy() for name in ("shard", "offset", "size_bytes")}
    return JpegStore(folder, split, columns, side_px)


class PixelStore:
    """Decoded squares, mapped; pickles as its paths."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        files = sorted(folder.glob(f"{split}-*.npy"))
        # A plain view of each map: indexing a memmap pays for its bookkeeping each time.
        self._shards = [np.asarray(np.load(file, mmap_mode="r")) for file in files]
        self._starts = np.cumsum([0, *map(len, self._shards)])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._shards[0].shape[1:])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if len(self._shards) == 1:
            only: NDArray[np.uint8] = self._shards[0][rows]
            return only
        if isinstance(rows, int | np.integer):
            row = checked_row(int(rows), len(self))
            shard = int(np.searchsorted(self._starts, row, side="right")) - 1
            image: NDArray[np.uint8] = self._shards[shard][row - self._starts[shard]]
            return image
        row_B = np.arange(len(self))[rows]
        shard_B = np.searchsorted(self._starts, row_B, side="right") - 1
        images = np.empty((len(row_B), *self.shape[1:]), np.uint8)
        for shard in np.unique(shard_B):
            here = shard_B == shard
            images[here] = self._shards[shard][row_B[here] - self._starts[shard]]
        return images

    def __reduce__(self) -> Any:
        return PixelStore, (self._folder, self._split)


class JpegStore:
    """Squares as JPEG, decoded when they are asked for; pickles as its paths and places."""

    def __init__(self, folder: Path, split: str, places: dict[str, NDArray[np.int64]], side_px: int) -> None:
        self._folder, self._split, self._places, self._side = folder, split, places, side_px
        files = sorted(folder.glob(f"{split}-*.jpegs"))
        self._shards = [np.asarray(np.memmap(file, np.uint8, mode="r")) for file in files]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), self._side, self._side, 3

    def __len__(self) -> int:
        return len(self._places["offset"])

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, int | np.integer):
            return self._decoded(checked_row(int(rows), len(self)))
        row_B = np.arange(len(self))[rows]
        images = np.empty((len(row_B), *self.shape[1:]), np.uint8)
        for place, row in enumerate(row_B):
            images[place] = self._decoded(row)
        return images

    def __reduce__(self) -> Any:
        return JpegStore, (self._folder, self._split, self._places, self._side)

    def _decoded(self, row: int) -> NDArray[np.uint8]:
        start = self._places["offset"][row]
        content = self._shards[self._places["shard"][row]][start : start + self._places["size_bytes"][row]]
        return np.asarray(Image.open(io.BytesIO(content.tobytes()), formats=["JPEG"]))


def _to_jpeg(square_SSC: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(square_SSC).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def checked_row(row: int, count: int) -> int:
    if not -count <= row < count:
        raise IndexError(f"row {row} of {count}")
    return row % count
