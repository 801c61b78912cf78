"""Bytes become the same upright RGB array whatever they were stored as, or are refused with a reason."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from components.data.images.decoding import DecodedImage, UndecodableImage, decode

Pixels = NDArray[np.uint8]


def quadrants(height: int = 32, width: int = 48) -> Pixels:
    """Four colours, so that every turn and mirror image shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 40, 40)
    pixels[: height // 2, width // 2 :] = (40, 200, 40)
    pixels[height // 2 :, : width // 2] = (40, 40, 200)
    pixels[height // 2 :, width // 2 :] = (220, 220, 90)
    return pixels


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8))


def stored(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def read(content: bytes, max_megapixels: float = 100) -> DecodedImage:
    return decode(content, max_megapixels=max_megapixels)


FORMATS = {
    "JPEG": ({"quality": 95, "subsampling": 0}, 8),
    "PNG": ({}, 0),
    "WEBP": ({"lossless": True}, 0),
    "BMP": ({}, 0),
    "TIFF": ({}, 0),
    "GIF": ({}, 0),
    "AVIF": ({"quality": 95, "subsampling": "4:4:4"}, 12),
    "PPM": ({}, 0),
}
"""How each format is saved, and by how much a pixel may differ."""


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_becomes_its_rgb_pixels(format_: str) -> None:
    options, tolerance = FORMATS[format_]
    decoded = read(stored(Image.fromarray(quadrants()), format_, **options))
    assert decoded.format == format_
    assert decoded.pixels_HWC.dtype == np.uint8
    # Lossy formats ring where colours meet: the inside of the quadrants is compared.
    inside = np.s_[4:12, 4:20]
    difference = np.abs(decoded.pixels_HWC[inside].astype(int) - quadrants()[inside])
    assert decoded.pixels_HWC.shape == (32, 48, 3)
    assert difference.max() <= tolerance


STORED_AS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""What a camera stores for each EXIF orientation of one and the same scene."""


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_exif_orientation_comes_out_upright(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options, tolerance = FORMATS[format_]
    image = Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](quadrants())))
    content = stored(image, format_, exif=exif, **options)
    pixels = read(content).pixels_HWC
    assert pixels.shape == (32, 48, 3)
    reduced = decode(content, max_megapixels=100, minimum_size=lambda width, height: (width // 4, height // 4))
    assert reduced.size_px == read(content).size_px == (48, 32)
    assert reduced.pixels_HWC.shape == ((8, 12, 3) if format_ == "JPEG" else (32, 48, 3))
    for corner in (np.s_[4:12, 4:20], np.s_[4:12, 28:44], np.s_[20:28, 4:20], np.s_[20:28, 28:44]):
        assert np.abs(pixels[corner].astype(int) - quadrants()[corner]).max() <= tolerance


@pytest.mark.parametrize("orientation", [0, 9, 4000])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read(stored(Image.fromarray(quadrants()), "PNG", exif=exif)).pixels_HWC, quadrants())


def grey(level: int) -> tuple[int, int, int]:
    return level, level, level


MODES = {
    "L": (Image.new("L", (4, 4), 77), "PNG", grey(77)),
    "1": (Image.new("1", (4, 4), 1), "PNG", grey(255)),
    "P": (Image.new("RGB", (4, 4), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE), "PNG", (10, 200, 30)),
    "RGBA opaque": (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), "PNG", (10, 20, 30)),
    "RGBA clear": (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "PNG", grey(255)),
    "RGBA half": (Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG", grey(127)),
    "LA clear": (Image.new("LA", (4, 4), (10, 0)), "PNG", grey(255)),
    "LA half": (Image.new("LA", (4, 4), (0, 128)), "PNG", grey(127)),
    "RGBA in WebP": (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "WEBP", grey(255)),
    "CMYK": (Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "TIFF", (0, 255, 255)),
    "L in TIFF": (Image.new("L", (4, 4), 77), "TIFF", grey(77)),
    "L in BMP": (Image.new("L", (4, 4), 77), "BMP", grey(77)),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb(name: str) -> None:
    image, format_, expected = MODES[name]
    pixels = read(stored(image, format_)).pixels_HWC
    assert pixels.shape == (4, 4, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    ink = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    decoded = read(stored(ink, "JPEG", quality=95))
    assert decoded.mode == "CMYK"
    assert np.abs(decoded.pixels_HWC.astype(int) - (255, 0, 0)).max() <= 6


def test_a_transparent_palette_entry_lies_over_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    assert np.array_equal(read(stored(image, "PNG", transparency=0)).pixels_HWC, np.full((4, 4, 3), 255))
    assert np.array_equal(read(stored(image, "PNG", transparency=1)).pixels_HWC[0, 0], (200, 0, 0))


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(format_: str) -> None:
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    decoded = read(stored(Image.fromarray(levels), format_))
    assert decoded.mode.startswith("I;16")
    assert decoded.pixels_HWC[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


def test_pixels_without_a_stated_range_are_refused() -> None:
    with pytest.raises(UndecodableImage, match="floating-point pixels have no stated range"):
        read(stored(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
    with pytest.raises(UndecodableImage, match="32-bit integer pixels"):
        read(stored(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF"))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for format_ in ("GIF", "WEBP", "PNG"):
        content = stored(frames[0], format_, save_all=True, append_images=frames[1:], duration=50, loop=0)
        assert np.abs(read(content).pixels_HWC[0, 0].astype(int) - (255, 0, 0)).max() <= 3, format_


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.8, 0.95, 0.99])
def test_a_truncated_jpeg_is_refused(options: dict[str, bool], kept: float) -> None:
    content = stored(noise(), "JPEG", quality=90, **options)
    read(content)
    with pytest.raises(UndecodableImage):
        read(content[: int(len(content) * kept)])


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_files_of_other_formats_are_refused(format_: str, kept: float) -> None:
    content = stored(noise(), format_)
    read(content)
    with pytest.raises(UndecodableImage):
        read(content[: int(len(content) * kept)])


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_truncated_anywhere_is_refused_or_complete(format_: str) -> None:
    content = stored(noise(16), format_)
    whole = read(content).pixels_HWC
    refused = 0
    for length in range(0, len(content), 3):
        try:
            assert np.array_equal(read(content[:length]).pixels_HWC, whole), f"{length} of {len(content)} bytes"
        except UndecodableImage:
            refused += 1
    assert refused > 0.9 * len(content) / 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"path,label\n1.png,cat\n", "no image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image that can be read"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "."),
    ],
    ids=["zero bytes", "text", "svg", "png signature alone"],
)
def test_what_is_no_image_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UndecodableImage, match=reason):
        read(content)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kept", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}], ids=str)
def test_a_truncated_jpeg_with_an_end_marker_is_refused(mode: str, kept: float, options: dict[str, int]) -> None:
    content = stored(noise().convert(mode), "JPEG", **options)
    cut = content[: int(len(content) * kept)] + b"\xff\xd9"
    with pytest.raises(UndecodableImage, match="broken image: image file is truncated"):
        read(cut)
    with pytest.raises(UndecodableImage, match="broken image"):
        decode(cut, max_megapixels=100, minimum_size=lambda *_: (8, 8))


@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"progressive": True}], ids=str
)
def test_a_complete_jpeg_that_ends_in_middle_grey_is_read(options: dict[str, int]) -> None:
    for side in (9, 33, 64):
        pixels = np.asarray(noise(side)).copy()
        pixels[-8:, -8:] = 128
        assert read(stored(Image.fromarray(pixels), "JPEG", **options)).pixels_HWC.shape == (side, side, 3)
        assert read(stored(Image.new("L", (side, side), 128), "JPEG", **options)).format == "JPEG"


def test_running_out_of_memory_does_not_condemn_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content = stored(noise(), "PNG")

    def full(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", full)
    with pytest.raises(MemoryError):
        read(content)


def test_an_image_of_another_format_is_not_opened() -> None:
    with pytest.raises(UndecodableImage, match="no image that can be read"):
        read(stored(Image.new("RGB", (8, 8)), "TGA"))


def test_heic_without_its_decoder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UndecodableImage, match=r"HEIC needs a decoder: pip install 'darkroom\[heic\]', or save it as"):
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))


def test_a_grey_map_of_16_bits_is_scaled() -> None:
    assert read(b"P5 2 1 65535\n" + bytes([128, 0, 255, 255])).pixels_HWC[0, :, 0].tolist() == [128, 255]


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(UndecodableImage, match="megapixels"):
        read(png_header(50_000, 50_000))
    with pytest.raises(UndecodableImage, match="150 megapixels, more than 100"):
        read(png_header(15_000, 10_000))


def test_the_limit_on_megapixels_is_the_one_that_is_set() -> None:
    content = stored(Image.new("RGB", (100, 100)), "PNG")
    assert read(content, max_megapixels=0.01).pixels_HWC.shape == (100, 100, 3)
    with pytest.raises(UndecodableImage, match=r"more than 0\.009"):
        read(content, max_megapixels=0.009)


def test_the_same_bytes_give_the_same_pixels_on_any_thread() -> None:
    content = stored(noise(), "JPEG", quality=80)
    with ThreadPoolExecutor(4) as threads:
        digests = {found.pixels_HWC.tobytes() for found in threads.map(read, [content] * 16)}
    assert len(digests) == 1
