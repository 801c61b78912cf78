"""Storage of the images of a split, in few large files that a loader maps into memory.

train-00000.npy    uint8 [n, S, S, 3]: pixels, an ordinary NumPy file
train-00000.jpegs  the same images as JPEG files one after the other; the index has the offset of each

A file holds at most SHARD_BYTES, so that a million images are few files. Shapes: N images, S side in pixels.
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
"""Without chroma subsampling: 41, 43 and 44 dB on photographs of clothes at 64, 128 and 224 px."""


class Location(NamedTuple):
    """Location of an image; offset and size_bytes are None for pixels, which are found by row."""

    shard: int
    offset: int | None
    size_bytes: int | None


class ImageRows(Protocol):
    """The images of a split: indexed like an array [N, S, S, 3], but read only on access."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]: ...


class PixelWriter:
    """Appends images as pixels; the header of each file is written first, as the count is known."""

    def __init__(self, folder: Path, split: str, *, count: int, side_px: int, first_shard: int) -> None:
        self._folder, self._split, self._side = folder, split, side_px
        self._remaining, self._room = count, 0
        self._stream: BinaryIO | None = None
        self.next_shard = first_shard

    def append(self, block_NSSC: NDArray[np.uint8]) -> list[Location]:
        locations = []
        while len(block_NSSC):
            stream = self._stream if self._stream and self._room else self._new_shard()
            now, block_NSSC = block_NSSC[: self._room], block_NSSC[self._room :]
            stream.write(np.ascontiguousarray(now).data)
            self._room -= len(now)
            locations += [Location(self.next_shard - 1, None, None)] * len(now)
        return locations

    def close(self) -> None:
        if self._stream:
            self._stream.close()

    def _new_shard(self) -> BinaryIO:
        self.close()
        self._stream = (self._folder / f"{self._split}-{self.next_shard:05d}.npy").open("wb")
        self._room = min(max(1, SHARD_BYTES // (3 * self._side**2)), self._remaining)
        self._remaining -= self._room
        self.next_shard += 1
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._room, self._side, self._side, 3)}
        np.lib.format.write_array_header_1_0(self._stream, header)
        return self._stream


class JpegWriter:
    """Appends images as JPEG files one after the other."""

    def __init__(self, folder: Path, split: str, *, first_shard: int) -> None:
        self._folder, self._split = folder, split
        self._stream: BinaryIO | None = None
        self.next_shard = first_shard

    def append(self, block_NSSC: NDArray[np.uint8]) -> list[Location]:
        return [self._append(_to_jpeg(square_SSC)) for square_SSC in block_NSSC]

    def close(self) -> None:
        if self._stream:
            self._stream.close()

    def _append(self, content: bytes) -> Location:
        if self._stream is None or self._stream.tell() + len(content) > SHARD_BYTES:
            self.close()
            self._stream = (self._folder / f"{self._split}-{self.next_shard:05d}.jpegs").open("wb")
            self.next_shard += 1
        location = Location(self.next_shard - 1, self._stream.tell(), len(content))
        self._stream.write(content)
        return location


def new_writer(
    store: Store, folder: Path, split: str, *, count: int, side_px: int, first_shard: int
) -> PixelWriter | JpegWriter:
    if store == "pixels":
        return PixelWriter(folder, split, count=count, side_px=side_px, first_shard=first_shard)
    return JpegWriter(folder, split, first_shard=first_shard)


def open_images(folder: Path, split: str, locations: pa.Table, *, side_px: int) -> ImageRows:
    """The images of a split, by the columns shard, offset and size_bytes of its index."""
    if locations["offset"].null_count:
        return PixelStore(folder, split)
    columns = {name: locations[name].to_numpy() for name in ("shard", "offset", "size_bytes")}
    return JpegStore(folder, split, columns, side_px)


class PixelStore:
    """Images as memory-mapped pixels; pickles as its paths."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        files = sorted(folder.glob(f"{split}-*.npy"))
        # Plain views: indexing a memmap is slower.
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
            in_shard_B = shard_B == shard
            images[in_shard_B] = self._shards[shard][row_B[in_shard_B] - self._starts[shard]]
        return images

    def __reduce__(self) -> Any:
        return PixelStore, (self._folder, self._split)


class JpegStore:
    """Images as JPEG, decoded on access; pickles as its paths and locations."""

    def __init__(self, folder: Path, split: str, locations: dict[str, NDArray[np.int64]], side_px: int) -> None:
        self._folder, self._split, self._locations, self._side = folder, split, locations, side_px
        files = sorted(folder.glob(f"{split}-*.jpegs"))
        self._shards = [np.asarray(np.memmap(file, np.uint8, mode="r")) for file in files]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), self._side, self._side, 3

    def __len__(self) -> int:
        return len(self._locations["offset"])

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, int | np.integer):
            return self._decoded(checked_row(int(rows), len(self)))
        row_B = np.arange(len(self))[rows]
        images = np.empty((len(row_B), *self.shape[1:]), np.uint8)
        for index, row in enumerate(row_B):
            images[index] = self._decoded(row)
        return images

    def __reduce__(self) -> Any:
        return JpegStore, (self._folder, self._split, self._locations, self._side)

    def _decoded(self, row: int) -> NDArray[np.uint8]:
        start = self._locations["offset"][row]
        content = self._shards[self._locations["shard"][row]][start : start + self._locations["size_bytes"][row]]
        return np.asarray(Image.open(io.BytesIO(content.tobytes()), formats=["JPEG"]))


def _to_jpeg(square_SSC: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(square_SSC).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def checked_row(row: int, count: int) -> int:
    if not -count <= row < count:
        raise IndexError(f"row {row} of {count}")
    return row % count
