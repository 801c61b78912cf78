"""Depths, transparencies and inversions that decoders are known to differ on; OpenCV writes some of the files."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from components.data.images.decoding import UndecodableImage, decode


def first_row(content: bytes) -> list[list[int]]:
    row: list[list[int]] = decode(content, max_megapixels=100).pixels_HWC[0].tolist()
    return row


def stored(image: Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def by_opencv(ending: str, pixels_HWC: NDArray[np.uint16]) -> bytes:
    done, content = cv2.imencode(ending, pixels_HWC)
    assert done
    return bytes(content)


def png(width: int, depth: int, colour: int, row: bytes, transparent: bytes = b"") -> bytes:
    """One row, written by the letter of the PNG specification; colour 0 is grey, 2 RGB, 4 grey with alpha."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    clear = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + head + clear + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


def tiff(width: int, bits: int, white_is_zero: bool, row: bytes) -> bytes:
    """One uncompressed grey row."""
    entries = [(256, 3, width), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1)]
    entries += [(273, 4, 8 + 2 + 12 * 8 + 4), (278, 3, 1), (279, 4, len(row))]
    fields = b"".join(struct.pack("<HHIHxx" if kind == 3 else "<HHII", tag, kind, 1, v) for tag, kind, v in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + struct.pack("<I", 0) + row


def grey(*levels: int) -> list[list[int]]:
    return [[level] * 3 for level in levels]


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_16_bit_colours_keep_their_upper_bits(ending: str) -> None:
    bgr = np.array([[[65535, 257, 0], [0, 1000, 32768]]], np.uint16)
    assert first_row(by_opencv(ending, bgr)) == [[0, 1, 255], [128, 3, 0]]


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_16_bit_alpha_lies_over_white(ending: str) -> None:
    bgra = np.array([[[0, 0, 65535, 65535], [0, 0, 0, 0], [0, 0, 0, 32768]]], np.uint16)
    opaque, clear, half = first_row(by_opencv(ending, bgra))
    assert (opaque, clear) == ([255, 0, 0], [255, 255, 255])
    assert half == pytest.approx([127] * 3, abs=1)


def test_12_bit_grey_is_scaled_to_its_own_white() -> None:
    # Two values of 12 bits in three bytes: 4095 and 2048.
    assert first_row(tiff(2, 12, False, bytes([0xFF, 0xF8, 0x00]))) == grey(255, 128)


def test_a_tiff_whose_zero_is_white() -> None:
    row16 = struct.pack("<3H", 0, 65535, 32768)
    assert first_row(tiff(3, 16, True, row16)) == grey(255, 0, 127)
    assert first_row(tiff(3, 16, False, row16)) == grey(0, 255, 128)
    assert first_row(tiff(3, 8, True, bytes([0, 255, 100]))) == grey(255, 0, 155)
    assert first_row(tiff(8, 1, True, bytes([0b10000000])))[:2] == grey(0, 255)


def test_a_rotated_tiff_whose_zero_is_white() -> None:
    levels = np.array([[0, 65535]], np.uint16)
    content = stored(Image.fromarray(levels), "TIFF", tiffinfo={262: 0, 274: 3})
    assert first_row(content) == grey(0, 255)


def test_big_endian_16_bit_grey() -> None:
    assert first_row(stored(Image.fromarray(np.array([[0, 257, 65535]], ">u2")), "TIFF")) == grey(0, 1, 255)


def test_a_transparent_colour_lies_over_white() -> None:
    assert first_row(png(3, 8, 0, bytes([0, 1, 128]), struct.pack(">H", 1))) == grey(0, 255, 128)
    assert first_row(png(3, 16, 0, struct.pack(">3H", 0, 257, 65535), struct.pack(">H", 257))) == grey(0, 255, 255)
    colours = first_row(png(2, 8, 2, bytes([1, 2, 3, 255, 0, 0]), struct.pack(">3H", 1, 2, 3)))
    assert colours == [[255, 255, 255], [255, 0, 0]]
    assert first_row(png(8, 1, 0, bytes([0b01111111]), struct.pack(">H", 0)))[0] == [255, 255, 255]


def test_few_bits_are_scaled() -> None:
    assert first_row(png(4, 2, 0, bytes([0b00011011]))) == grey(0, 85, 170, 255)
    assert first_row(png(2, 4, 0, bytes([0x0F]))) == grey(0, 255)
    assert first_row(png(2, 16, 4, struct.pack(">4H", 0, 65535, 0, 0))) == grey(0, 255)


def test_a_palette_with_degrees_of_transparency() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for place in range(3):
        image.putpixel((place, 0), place)
    clear, half, opaque = first_row(stored(image, "PNG", transparency=bytes([0, 128, 255])))
    assert (clear, opaque) == ([255, 255, 255], [0, 0, 255])
    assert half == pytest.approx([127, 255, 127], abs=1)
    assert first_row(stored(image, "GIF", transparency=0))[0] == [255, 255, 255]


def test_adobes_inverted_cmyk_is_the_same_red_as_plain_cmyk() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    jpeg = stored(red, "JPEG", quality=95)
    assert b"Adobe" in jpeg  # Pillow writes it inverted, as Adobe does
    assert np.abs(np.array(first_row(jpeg)) - (255, 0, 0)).max() <= 6
    assert first_row(stored(red, "TIFF"))[0] == [255, 0, 0]


def test_32_bit_integers_have_no_white_even_when_they_are_small() -> None:
    with pytest.raises(UndecodableImage, match="32-bit integer pixels have no stated range"):
        first_row(stored(Image.fromarray(np.full((4, 4), 200, np.int32)), "TIFF"))
