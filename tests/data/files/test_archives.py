"""Archives that unpack to far more than their size are refused in one sentence, in little memory; the rest is read."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from components.data.files import archives
from components.data.files.find_images import find_images
from components.data.files.image_file import ImageFile
from components.shared.errors import DataError

MIB = 2**20
BOMB = 24 * MIB


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the real ones, so that a small bomb is one."""
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 2 * MIB)
    monkeypatch.setattr(archives, "_MAX_IN_MEMORY_BYTES", MIB)
    monkeypatch.setattr(archives, "_MAX_EXTENDED_HEADER_BYTES", MIB)


def zip_of(file: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file


def tar_of(contents: dict[str, bytes], kinds: dict[str, bytes] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), (kinds or {}).get(name, tarfile.REGTYPE)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read_all(file: Path) -> tuple[dict[str, bytes | str], int]:
    """Each member's bytes, or why it has none; and the most memory that it took."""

    def content_or_error(one: ImageFile) -> bytes | str:
        try:
            return one.read()
        except DataError as problem:
            return str(problem)

    tracemalloc.start()
    try:
        found = {one.name.removeprefix(f"{file}/"): content_or_error(one) for one in find_images([str(file)])}
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def a_zip(file: Path) -> Path:
    return zip_of(file, {"bomb.bmp": bytes(BOMB), "b.jpg": b"B"})


def packed_tar(pack: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def make(file: Path) -> Path:
        file.write_bytes(pack(tar_of({"bomb.bmp": bytes(BOMB), "b.jpg": b"B"})))
        return file

    return make


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.zip", a_zip),
        ("a.tar.gz", packed_tar(lambda content: gzip.compress(content, 1))),
        ("a.tar.bz2", packed_tar(lambda content: bz2.compress(content, 1))),
        ("a.tar.xz", packed_tar(lambda content: lzma.compress(content, preset=0))),
    ],
)
def test_a_bomb_is_refused_in_one_sentence_and_the_next_image_is_read(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    file = make(tmp_path / name)
    assert file.stat().st_size < BOMB / 100
    found, peak_bytes = read_all(file)
    assert found["b.jpg"] == b"B"
    assert str(found["bomb.bmp"]).startswith("unpacks to 25,165,824 bytes, of which at most 2,097,152 are read; if")
    assert peak_bytes < 2 * MIB


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_that_claims_to_be_small_is_not_unpacked_further(tmp_path: Path, method: int) -> None:
    file = zip_of(tmp_path / "a.zip", {"bomb.bmp": bytes(BOMB), "b.jpg": b"B"}, method)
    file.write_bytes(file.read_bytes().replace(struct.pack("<I", BOMB), struct.pack("<I", 100)))
    found, peak_bytes = read_all(file)
    assert "can't be unpacked" in str(found["bomb.bmp"])
    assert peak_bytes < 2 * MIB


def test_a_bomb_in_an_extended_header_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    content = tar_of({"a.jpg": b"A", "long": bytes(BOMB), "b.jpg": b"B"}, {"long": tarfile.GNUTYPE_LONGNAME})
    file.write_bytes(gzip.compress(content, 1))
    found, peak_bytes = read_all(file)
    assert found.pop("a.jpg") == b"A"
    assert found == {
        str(file): "the rest of the archive can't be read: an extended header of 25,165,824 bytes; pack it again"
    }
    assert peak_bytes < 2 * MIB


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_large_images_wait_in_temporary_files(tmp_path: Path, name: str) -> None:
    contents = {f"{number}.bmp": bytes([number]) * (2 * MIB) for number in range(6)}
    file = tmp_path / name
    zip_of(file, contents) if name == "a.zip" else file.write_bytes(tar_of(contents))
    tracemalloc.start()
    waiting = list(find_images([str(file)]))
    used_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used_bytes < MIB
    assert [one.read() for one in waiting] == list(contents.values())
    assert waiting[0].read() == contents["0.bmp"]
