"""The mild policies: what a draw does to an image, and how its numbers are spread."""

from dataclasses import replace

import albumentations
import numpy as np
import pytest
from projects import draw_shape

from components.data.augmentation.affine import BASIC, MEDICAL, MildRanges, MildTransform, _affine, _warp

SQUARE = np.asarray(draw_shape("circle", 3, 64))
STILL = MildRanges(
    affine_probability=0, shift=0, scale=0, rotation_degrees=0, color_probability=0, brightness=0, contrast=0, tint=0
)


def seeds(count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(count)]


@pytest.mark.parametrize(
    ("turn", "scale", "shift"),
    [
        (0, (1.0, 1.0), (0.0625, 0.0)),
        (10, (1.0, 1.0), (0.0, 0.0)),
        (0, (1.1, 0.9), (0.0, 0.0)),
        # Theirs rounds a shift to whole pixels.
        (-7, (1.1, 0.9), (-0.0625, 0.03125)),
    ],
)
def test_an_affine_map_is_albumentations_own(
    turn: float, scale: tuple[float, float], shift: tuple[float, float]
) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[10:40, 20:30], pixels[10:20, 20:55] = 200, 120
    theirs = albumentations.Affine(
        translate_percent={"x": (shift[0],) * 2, "y": (shift[1],) * 2},
        scale={"x": (scale[0],) * 2, "y": (scale[1],) * 2},
        rotate=(-turn, -turn),
        p=1,
    )(image=pixels)["image"]
    matrix_23 = _affine((64, 64), shift=shift, scale=scale, rotation_degrees=turn, flipped=(False, False))
    assert np.abs(_warp(pixels, matrix_23).astype(int) - theirs).max() <= 1
    assert np.abs(pixels.astype(int) - theirs).mean() > 3


@pytest.mark.parametrize("flipped", [(True, False), (False, True), (True, True)])
def test_a_mirror_image_by_the_map_is_the_mirror_image(flipped: tuple[bool, bool]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    matrix_23 = _affine(pixels.shape[:2], shift=(0, 0), scale=(1, 1), rotation_degrees=0, flipped=flipped)
    expected = pixels[:: -1 if flipped[1] else 1, :: -1 if flipped[0] else 1]
    assert np.array_equal(_warp(pixels, matrix_23), expected)


def test_flips_are_independent_and_half_the_time() -> None:
    draw = MildTransform(STILL, "both")
    ways = {SQUARE[::y, ::x].tobytes(): (y, x) for y in (1, -1) for x in (1, -1)}
    seen = [ways[draw(SQUARE, seed).tobytes()] for seed in seeds(400)]
    assert all(60 < seen.count(way) < 140 for way in ways.values())


@pytest.mark.parametrize("ranges", [BASIC, MEDICAL])
def test_brightness_and_contrast_span_their_ranges_and_have_their_probability(ranges: MildRanges) -> None:
    """Contrast and brightness of each image follow from two levels that lie far apart."""
    tones = np.zeros((8, 8, 3), np.uint8)
    tones[:4], tones[4:] = 110, 140
    only_light = MildRanges(0, 0, 0, 0, ranges.color_probability, ranges.brightness, ranges.contrast, 0)
    draw = MildTransform(only_light, "none")
    drawn = np.array([draw(tones, seed)[[0, 7], 0, 0] for seed in seeds(2000)], float)
    lit = (drawn != (110, 140)).any(axis=1)
    assert abs(lit.mean() - ranges.color_probability) < 0.05
    contrast = (drawn[lit, 1] - drawn[lit, 0]) / 30 - 1
    brightness = (drawn[lit, 0] - 110 * (1 + contrast)) / 255
    assert 0.9 * ranges.contrast < contrast.max() <= ranges.contrast + 0.04
    assert abs(contrast.mean()) < 0.15 * ranges.contrast + 0.005
    # Levels are whole numbers, so the contrast is known to a thirtieth only.
    assert 0.9 * ranges.brightness < brightness.max() < ranges.brightness + 0.04


@pytest.mark.parametrize("ranges", [BASIC, MEDICAL])
def test_each_channel_is_tinted_independently(ranges: MildRanges) -> None:
    grey = np.full((4, 4, 3), 200, np.uint8)
    draw = MildTransform(replace(STILL, color_probability=1, tint=ranges.tint), "none")
    gains_NC = np.array([draw(grey, seed)[0, 0] for seed in seeds(1000)]) / 200 - 1
    assert np.abs(gains_NC).max() == pytest.approx(ranges.tint, abs=0.005)
    if ranges.tint:
        assert np.abs(np.corrcoef(gains_NC.T) - np.eye(3)).max() < 0.15


def test_shifts_stay_within_their_ranges_and_fill_them() -> None:
    """The center of a small white spot shows the shift; nothing else moves it much."""
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[48:53, 48:53] = 255
    draw = MildTransform(MildRanges(0.9, 0.08, 0.1, 10, 0, 0, 0, 0), "both")
    places = np.arange(101) - 50
    shifts = []
    for seed in seeds(400):
        light = draw(pixels, seed)[..., 0].astype(float)
        shifts.append([(light.sum(axis=axis) * places).sum() / light.sum() for axis in (0, 1)])
    assert np.abs(shifts).max() == pytest.approx(0.08 * 101, abs=0.3)
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.8
    assert abs(float(np.corrcoef(np.array(shifts).T)[0, 1])) < 0.15
