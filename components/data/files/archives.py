"""Images of a zip or tar archive, one after another, without unpacking it, and without trusting what it claims to hold.

An archive of a few kilobytes can unpack to terabytes. So sizes are checked before anything is unpacked, unpacking goes
piece by piece, and large members are stored in temporary files, for many are read at once.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from components.data.files.image_file import unreadable
from components.shared.errors import DataError, first_line

ARCHIVE_EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_MEMBER_BYTES = 2**28
"""256 MiB: a picture of 44 megapixels with 16 bits a colour, uncompressed; as JPEG, any that a camera takes."""
_MAX_IN_MEMORY_BYTES = 2**24
_EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""Headers with long names and more about a tar member, which Python's tarfile reads in one piece."""
_MAX_EXTENDED_HEADER_BYTES = 2**20

Read = Callable[[], bytes]
Member = tuple[str, Read]
"""A member's name, and its content; reading raises DataError with the reason if it can't be read."""


class CutShort(DataError):
    """The rest of the archive can't be read; the members before it were."""


class _TarHeader(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, *arguments: Any) -> "_TarHeader":
        header = super().frombuf(*arguments)
        if header.type in _EXTENDED_HEADERS and header.size > _MAX_EXTENDED_HEADER_BYTES:
            raise tarfile.ReadError(f"an extended header of {header.size:,} bytes")
        return header


def archive_members(stream: BinaryIO, name: str, is_wanted: Callable[[str], bool]) -> Iterator[Member]:
    """The wanted members in the archive's order; raises DataError if it is no archive, CutShort within a tar."""
    return (_zip_members if name.lower().endswith(".zip") else _tar_members)(stream, is_wanted)


def is_hidden_member(name: str) -> bool:
    """Whether the member is hidden, lies in a hidden folder, or was added by macOS."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part not in (".", "..") for part in parts)


def open_zip(source: BinaryIO | Path) -> zipfile.ZipFile:
    """Raises DataError for what is no zip archive."""
    try:
        return zipfile.ZipFile(source)
    except MemoryError:
        raise
    # Its index may be broken in as many ways as bytes can.
    except Exception as problem:
        raise DataError(f"can't be read as an archive: {first_line(problem)}; pack it again") from None


def _zip_members(stream: BinaryIO, is_wanted: Callable[[str], bool]) -> Iterator[Member]:
    archive = open_zip(stream)
    for member in archive.infolist():
        if not member.is_dir() and is_wanted(member.filename):
            yield member.filename, _read_now(partial(read_zip_member, archive, member), member.file_size)


def _tar_members(stream: BinaryIO, is_wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Reads the archive once, from front to end."""
    try:
        with tarfile.open(fileobj=_decompressed(stream), mode="r|", tarinfo=_TarHeader) as archive:
            for member in archive:
                if member.isreg() and is_wanted(member.name):
                    yield member.name, _read_now(partial(_read_tar_member, archive, member), member.size)
                # The module keeps all headers that it has read.
                archive.members.clear()  # type: ignore[attr-defined]
    # This machine has too little memory; the archive may be good.
    except MemoryError:
        raise
    # Cut short, or unpacked to nonsense: each compression has its own errors.
    except Exception as problem:
        raise CutShort(f"the rest of the archive can't be read: {first_line(problem)}; pack it again") from None


def _decompressed(stream: BinaryIO) -> IO[bytes]:
    """By the first bytes of the stream. Python's tarfile would decompress each piece whole, however much that gives."""
    packed = io.BufferedReader(cast(io.RawIOBase, stream))
    start = packed.peek(6)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(packed))
    if start.startswith(b"BZh"):
        return bz2.open(packed)
    return lzma.open(packed) if start.startswith(b"\xfd7zXZ\0") else packed


def _read_now(read: Read, size_bytes: int) -> Read:
    """Reads at once, for the archive is read further, or closed, while this member is still being decoded."""
    if size_bytes > MAX_MEMBER_BYTES:
        reason = f"unpacks to {size_bytes:,} bytes, of which at most {MAX_MEMBER_BYTES:,} are read"
        return unreadable(f"{reason}; if it is a picture, unpack the archive")
    try:
        content = read()
    except DataError as problem:
        return unreadable(str(problem))
    if len(content) <= _MAX_IN_MEMORY_BYTES:
        return lambda: content
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it is deleted with the last reference to it
    file.write(content)
    return partial(_read_from_start, file)


def _read_from_start(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def read_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Python's zipfile would decompress a piece of it whole, however much that gives.
        raise DataError("can't be unpacked: is neither stored nor deflated; pack it again")
    try:
        with archive.open(member) as stream:
            return stream.read(member.file_size)
    except MemoryError:
        raise
    # A password, or bytes that don't unpack: there are many types of errors.
    except Exception as problem:
        raise DataError(f"can't be unpacked: {problem}") from None


def _read_tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None  # it is a regular member
    return stream.read()
