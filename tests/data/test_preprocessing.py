"""From an RGB array to the square that the model sees."""

from typing import Literal

import numpy as np
import pytest

from components.data.preprocessing import PreprocessSettings, to_square
from components.errors import SettingsError

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


def test_pad_keeps_the_whole_picture_between_black_bars() -> None:
    square = to_square(bands(30, 90), settings("pad", 18))
    assert not square[:6].any()
    assert not square[12:].any()
    assert [tuple(square[9, column]) for column in (2, 9, 15)] == [RED, GREEN, BLUE]
    upright = to_square(bands(90, 30), settings("pad", 18))
    assert np.array_equal(upright, square.swapaxes(0, 1))


def test_stretch_uses_the_whole_square_for_the_whole_picture() -> None:
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
