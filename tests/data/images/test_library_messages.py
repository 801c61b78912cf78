"""What Pillow and libtiff say about broken and odd files never reaches the terminal, whichever thread decodes."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

_DECODE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from components.data.images.decoding import decode, has_more_frames
from components.shared.errors import DataError
def work(file):
    content = Path(file).read_bytes()
    has_more_frames(content)
    try:
        return decode(content, max_megapixels=1).format
    except DataError as problem:
        return str(problem)
with ThreadPoolExecutor(8) as threads:
    print(set(threads.map(work, sys.argv[1:] * 40)))
"""
_BARE = """
import sys
from PIL import Image
for file in sys.argv[1:]:
    try:
        image = Image.open(file)
        image.getexif()
        image.convert("RGBA")
    except Exception:
        pass
"""


def _pixels() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


def _tiff(compression: str, *, damaged: bool = False, tag: bool = False) -> bytes:
    stream, tags = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    if tag:
        tags[65000] = "a camera's own"
        tags.tagtype[65000] = 2
    _pixels().save(stream, format="TIFF", compression=compression, tiffinfo=tags)
    content = stream.getvalue()
    return content[:300] + bytes(200) + content[500:] if damaged else content


def _jpeg_with_broken_exif() -> bytes:
    stream = io.BytesIO()
    _pixels().save(stream, format="JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03")
    return stream.getvalue()


def _png_with_byte_transparency() -> bytes:
    stream = io.BytesIO()
    _pixels().quantize(8).save(stream, format="PNG", transparency=bytes([0, 128, 255]))
    return stream.getvalue()


def _large() -> bytes:
    stream = io.BytesIO()
    Image.new("1", (10_000, 9_500)).save(stream, format="PNG")
    return stream.getvalue()


_FILES = {
    "deflate.tif": lambda: _tiff("tiff_adobe_deflate", damaged=True),
    "lzw.tif": lambda: _tiff("tiff_lzw", damaged=True),
    "tag.tif": lambda: _tiff("tiff_lzw", tag=True),
    "exif.jpg": _jpeg_with_broken_exif,
    "palette.png": _png_with_byte_transparency,
    "large.png": _large,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("odd")
    for name, make in _FILES.items():
        (folder / name).write_bytes(make())
    return [str(folder / name) for name in _FILES]


def said(code: str, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=Path.cwd())


def test_nothing_that_the_libraries_say_reaches_the_terminal(files: list[str]) -> None:
    bare = said(_BARE, *files).stderr
    assert all(part in bare for part in ("Decod", "EXIF", "DecompressionBombWarning")), bare
    answer = said(_DECODE, *files)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert "broken image" in answer.stdout
