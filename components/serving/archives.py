"""Images of a zip or tar archive, one after another, without unpacking it, and without trusting what it claims to hold.

An archive of a few kilobytes can unpack to terabytes. So sizes are looked at before anything is unpacked, unpacking
goes piece by piece, and large members wait in temporary files, for many are on their way at once.
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
from typing import IO, Any, BinaryIO, cast

from components.shared.errors import DataError, first_line

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_MEMBER_BYTES = 2**28
"""256 MiB: a picture of 44 megapixels with 16 bits a colour, uncompressed; as JPEG, any that a camera takes."""
_IN_MEMORY_BYTES = 2**24
_NOTES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Headers with long names and further notes on a tar member, which the module reads as one piece."""
_MAX_NOTES_BYTES = 2**20

Read = Callable[[], bytes]
Member = tuple[str, Read]
"""A member's name, and its bytes; reading raises DataError with the reason why they can't be had."""


class BrokenOff(DataError):
    """The archive can't be read any further; what came before stands."""


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, *arguments: Any) -> "_Header":
        header = super().frombuf(*arguments)
        if header.type in _NOTES and header.size > _MAX_NOTES_BYTES:
            raise tarfile.ReadError(f"notes of {header.size:,} bytes on a member")
        return header


def zip_members(stream: BinaryIO, is_wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Raises DataError where the stream is no zip archive."""
    try:
        archive = zipfile.ZipFile(stream)
    except MemoryError:
        raise
    # Its list of members may be broken in as many ways as bytes can.
    except Exception as problem:
        raise DataError(f"can't be read as an archive: {first_line(problem)}; pack it anew") from None
    for member in archive.infolist():
        if not member.is_dir() and is_wanted(member.filename):
            yield member.filename, _taken(partial(_zip_content, archive, member), member.file_size)


def tar_members(stream: BinaryIO, is_wanted: Callable[[str], bool]) -> Iterator[Member]:
    """From front to end, once: a member is taken when it passes; raises BrokenOff where it can't be read on."""
    try:
        with tarfile.open(fileobj=_unpacked(stream), mode="r|", tarinfo=_Header) as archive:
            for member in archive:
                if member.isreg() and is_wanted(member.name):
                    yield member.name, _taken(partial(_tar_content, archive, member), member.size)
                # The module keeps what it has seen.
                archive.members.clear()  # type: ignore[attr-defined]
    # That is this machine's lack, not the archive's.
    except MemoryError:
        raise
    # Cut short, or unpacked to nonsense: each compression has errors of its own kind.
    except Exception as problem:
        raise BrokenOff(f"can't be read on as an archive: {first_line(problem)}; pack it anew") from None


def _unpacked(stream: BinaryIO) -> IO[bytes]:
    """By what the stream begins with. The module itself would unpack each piece as a whole, however much that gives."""
    packed = io.BufferedReader(cast(io.RawIOBase, stream))
    start = packed.peek(6)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(packed))
    if start.startswith(b"BZh"):
        return bz2.open(packed)
    return lzma.open(packed) if start.startswith(b"\xfd7zXZ\0") else packed


def _taken(read: Read, size_bytes: int) -> Read:
    """Reads now, for the archive goes on, or is closed, while others are still being decoded."""
    if size_bytes > MAX_MEMBER_BYTES:
        reason = f"unpacks to {size_bytes:,} bytes, of which at most {MAX_MEMBER_BYTES:,} are read"
        return partial(_fail, f"{reason}; if it is a picture, unpack the archive")
    try:
        content = read()
    except DataError as problem:
        return partial(_fail, str(problem))
    if len(content) <= _IN_MEMORY_BYTES:
        return lambda: content
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with the last who may read it
    file.write(content)
    return partial(_from_start, file)


def _from_start(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _zip_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The module would unpack a piece of it as a whole, however much that gives.
        raise DataError("can't be unpacked: is neither stored nor deflated; pack it anew")
    try:
        with archive.open(member) as stream:
            return stream.read(member.file_size)
    except MemoryError:
        raise
    # A password, or bytes that don't unpack: there are errors of many kinds.
    except Exception as problem:
        raise DataError(f"can't be unpacked: {problem}") from None


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None  # it is a regular member
    return stream.read()


def _fail(reason: str) -> bytes:
    raise DataError(reason)
