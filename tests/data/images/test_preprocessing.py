"""From an RGB array to the square that the model sees."""

import io
from typing import Literal

import cv2
import numpy as np
import pytest
from PIL import Image
from shapes import photograph

from components.data.images.preprocessing import PreprocessSettings, to_square
from components.shared.errors import SettingsError

Resize = Literal["crop", "pad", "stretch"]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def settings(resize: Resize = "crop", size: int = 16) -> PreprocessSettings:
    return PreprocessSettings(image_size_px=size, resize=resize, max_megapixels=100)


def bands(height: int, width: int) -> np.ndarray:
    """Red, green and blue thirds along the longer side."""
    pixels = np.zeros((height, width, 3), np.uint8)
    view = pixels if width >= height else pixels.swapaxes(0, 1)
    third = max(height, width) // 3
    for number, colour in enumerate((RED, GREEN, BLUE)):
        view[:, number * third : (number + 1) * third] = colour
    return pixels


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [8, 24, 224])
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (30, 90), (90, 30), (17, 16), (24, 24)])
def test_every_shape_becomes_the_square(resize: Resize, size: int, shape: tuple[int, int]) -> None:
    square = to_square(np.full((*shape, 3), 90, np.uint8), settings(resize, size))
    assert square.shape == (size, size, 3)
    assert square.dtype == np.uint8


@pytest.mark.parametrize("shape", [(30, 90), (90, 30)])
def test_crop_keeps_the_centre(shape: tuple[int, int]) -> None:
    square = to_square(bands(*shape), settings("crop"))
    assert np.array_equal(square[1:-1, 1:-1], np.full((14, 14, 3), GREEN))


def test_pad_keeps_the_full_image_between_black_bars() -> None:
    square = to_square(bands(30, 90), settings("pad", 18))
    assert not square[:6].any()
    assert not square[12:].any()
    assert [tuple(square[9, column]) for column in (2, 9, 15)] == [RED, GREEN, BLUE]
    upright = to_square(bands(90, 30), settings("pad", 18))
    assert np.array_equal(upright, square.swapaxes(0, 1))


def test_stretch_fills_the_square_with_the_full_image() -> None:
    square = to_square(bands(30, 90), settings("stretch", 18))
    assert [tuple(square[0, column]) for column in (2, 9, 15)] == [RED, GREEN, BLUE]
    assert [tuple(square[17, column]) for column in (2, 9, 15)] == [RED, GREEN, BLUE]


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for resize in ("crop", "pad", "stretch"):
        assert np.array_equal(to_square(pixels, settings(resize)), pixels)


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    board = np.indices((160, 160)).sum(axis=0) % 2 * 255
    square = to_square(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), settings())
    assert np.abs(square.astype(int) - 127).max() <= 3


def triangle(pixels_HWC: np.ndarray, size: int) -> np.ndarray:
    """Pillow's antialiased bilinear resampling of the centre, which may lie between pixels."""
    height, width = pixels_HWC.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = left, top, left + side, top + side
    return np.asarray(Image.fromarray(pixels_HWC).resize((size, size), Image.Resampling.BILINEAR, box=box))


@pytest.mark.parametrize("size", [32, 100, 201, 224, 320, 399, 500])
def test_resampling_comes_close_to_one_antialiasing_triangle(size: int) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(photograph(400, 533))).convert("RGB"))
    error = to_square(pixels, settings("crop", size)).astype(float) - triangle(pixels, size)
    assert (error**2).mean() < 10  # 38 dB; photographs of clothes have 50 at 224 px


@pytest.mark.parametrize(
    ("shape", "size"), [((60, 40), 32), ((61, 40), 32), ((40, 61), 32), ((35, 34), 32), ((20, 31), 32), ((77, 120), 32)]
)
def test_odd_sides_cause_no_shift(shape: tuple[int, int], size: int) -> None:
    """A spot in the middle of a dark picture stays in the middle, to a hundredth of a pixel."""
    height, width = shape
    rows, columns = np.mgrid[0:height, 0:width]
    away = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2
    spot = (200 * np.exp(-away / (2 * 4.0**2))).round().astype(np.uint8)
    square = to_square(np.repeat(spot[..., None], 3, axis=2), settings("crop", size))[..., 0].astype(float)
    places = np.arange(size) - (size - 1) / 2
    centre = [float((square.sum(axis=axis) * places).sum() / square.sum()) for axis in (0, 1)]
    assert centre == pytest.approx([0, 0], abs=0.01)


@pytest.mark.parametrize("level", [0, 7, 90, 200, 255])
@pytest.mark.parametrize("shape", [(60, 40), (61, 40), (400, 300)])
def test_a_plain_picture_keeps_its_colour(level: int, shape: tuple[int, int]) -> None:
    assert (to_square(np.full((*shape, 3), level, np.uint8), settings("crop", 32)) == level).all()


def test_another_number_of_threads_changes_no_byte() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (533, 400, 3), dtype=np.uint8)
    before = cv2.getNumThreads()
    found = set()
    for threads in (1, 2, 4):
        cv2.setNumThreads(threads)
        found.add(to_square(pixels, settings("crop", 224)).tobytes())
    cv2.setNumThreads(before)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_size_px": 7}, "greater than or equal to 8"),
        ({"image_size_px": 16.5}, "integer"),
        ({"resize": "squeeze"}, "'crop', 'pad' or 'stretch'"),
        ({"max_megapixels": 0}, "greater than 0"),
        # Pillow itself refuses more, so a larger limit would promise what isn't kept.
        ({"max_megapixels": 300}, "less than or equal to 178"),
    ],
)
def test_a_setting_out_of_range_is_refused(change: dict[str, object], reason: str) -> None:
    values = {"image_size_px": 16, "resize": "crop", "max_megapixels": 100} | change
    with pytest.raises(SettingsError, match=reason):
        PreprocessSettings.from_section("preprocess", values)
