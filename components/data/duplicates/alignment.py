"""How alike two pictures are once one is shifted and scaled over the other.

The finer comparison behind a pair of near hashes. Gauss-Newton steps (Baker and Matthews 2004, "Lucas-Kanade 20 Years
On") look for the shift and scale, each axis by itself, at which one 32×32 grey picture best matches a window of the
other, whatever the two brightnesses and contrasts are. Likeness is then read from the details and the coarse colours.
Letters: U pictures, P pairs, S side of the grey square, G side of the colour grid.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from components.data.images.perceptual_hash import COLOUR_SIDE, CROPS, SIDE, Window

Array = NDArray[np.float32]

_BATCH_PAIRS = 256
"""Their pictures and slopes stay in a processor's cache."""
_STEPS = 6
_DAMPING = np.float32(1e-3)
_MAX_STEP = 0.08
"""Of half a side, in one step."""
_MIN_DETAILS = 0.92
"""Least correlation of the details; without it, two pictures of one layout on one ground would be alike."""
_PATCHES = 4
"""A side: each of 4 × 4 patches is compared by itself."""
_MIN_PATCH = 0.9
"""Least correlation in each patch but two: a clipped highlight or a caption may differ, no more."""
_PATCH_NOISE = np.float32(2e-4)
"""Share of the picture's variance below which a patch is plain, and alike whatever its noise."""
_MAX_COLOUR_DIFFERENCE = 12.0
"""Levels of 255; JPEG and clipping change a picture's coarse colours by less, another dye by more."""
_FINE_PX = 1.0
_MAX_RESIDUAL = np.float32(0.9)
"""Of the smoother picture's fine details: recompressing, resizing and sampling anew change little but those, so what
two copies differ in is less (99% of them under 0.2 on photographs), while two drawings of one form differ by more."""
_DETAIL_PX = 2.0
"""Radius of the blur that is taken away to leave the details."""
_PLAIN_DEVIATION = 2.0
"""Grey levels; below it a picture has no structure by which it could be told from another."""
_EDGE_PX = 2
"""Left out of every comparison on each side, so that what stood beyond a crop or in a border doesn't count."""
_INNER = np.s_[:, _EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX]
_AXIS_S = ((np.arange(SIDE) + 0.5) / SIDE * 2 - 1).astype(np.float32)[_EDGE_PX:-_EDGE_PX]
_AXIS_G = ((np.arange(COLOUR_SIDE) + 0.5) / COLOUR_SIDE * 2 - 1).astype(np.float32)[1:-1]
_MAX_OVERHANG = 0.06
"""How far, in half sides, the window may reach over the edge of the other picture."""
_MIN_SCALE = 0.8
"""Least side of the window."""

VIEWS: tuple[tuple[tuple[Window, Window], bool], ...] = tuple(product(CROPS, (False, True)))
"""The windows of a picture, and whether it is mirrored, that candidate pairs are looked for with."""
_MIRRORED_V = np.array([mirrored for _, mirrored in VIEWS])


def _warp(crop: tuple[Window, Window], mirrored: bool) -> list[float]:
    """Vertical scale and shift, horizontal scale and shift, in half sides from the middle."""
    rows, columns = crop
    centre = columns[0] + columns[1] - 1
    return [rows[1] - rows[0], rows[0] + rows[1] - 1, columns[1] - columns[0], -centre if mirrored else centre]


_WARP_V4 = np.array([_warp(*view) for view in VIEWS], dtype=np.float32)


@dataclass(frozen=True)
class Pictures:
    smooth_USS: Array
    """Blurred a little, so that a step of a pixel or two still points the right way."""
    plain_U: NDArray[np.bool_]
    """Without structure: never alike."""
    fine_U: Array
    """Share of the variance that lies in details finer than two pixels."""
    colour_UGG3: NDArray[np.uint8]

    @classmethod
    def of(cls, grey_USS: NDArray[np.uint8], colour_UGG3: NDArray[np.uint8]) -> "Pictures":
        smooth = _blurred(grey_USS.astype(np.float32), 0.7)
        inner = _standardized(smooth[_INNER])
        fine = inner - _blurred(inner, _FINE_PX)
        return cls(smooth, smooth.std(axis=(1, 2)) < _PLAIN_DEVIATION, _product(fine, fine), colour_UGG3)


def likeness(pictures: Pictures, pairs: NDArray[np.int64], starts: NDArray[np.int64]) -> Array:
    """Of each pair (i, j), in [-1, 1]: the correlation of picture i with the window of picture j that fits it best.

    `starts` numbers the window of VIEWS from which the search begins. -1 stands for pictures that differ in their
    details, or where the best window leaves the other picture.
    """
    answer = np.full(len(pairs), -1, np.float32)
    for begin in range(0, len(pairs), _BATCH_PAIRS):
        batch = slice(begin, begin + _BATCH_PAIRS)
        answer[batch] = _likeness(pictures, pairs[batch], starts[batch])
    return answer


def _likeness(pictures: Pictures, pairs: NDArray[np.int64], starts: NDArray[np.int64]) -> Array:
    target, moving = pictures.smooth_USS[pairs[:, 0]][_INNER], pictures.smooth_USS[pairs[:, 1]]
    warp, mirrored = _WARP_V4[starts], _MIRRORED_V[starts]
    moving[mirrored] = moving[mirrored, :, ::-1]
    seen, warp = _aligned(target, moving, warp)
    left, right = _standardized(target), _standardized(seen)
    alike = _inside(warp) & (_product(_details(target), _details(seen)) >= _MIN_DETAILS)
    alike &= np.sort(_patch_correlations(left, right), axis=1)[:, 2] >= _MIN_PATCH
    colours, moving_colours = (pictures.colour_UGG3[one].astype(np.float32) for one in pairs.T)
    moving_colours[mirrored] = moving_colours[mirrored, :, ::-1]
    alike &= _colour_differences(colours, moving_colours, warp) <= _MAX_COLOUR_DIFFERENCE
    correlation = _product(left, right)
    alike &= 1 - correlation <= _MAX_RESIDUAL * pictures.fine_U[pairs].min(axis=1)
    return np.where(alike, correlation, np.float32(-1))


def _colour_differences(left_PGG3: Array, right_PGG3: Array, warp_P4: Array) -> Array:
    """Root mean square difference of two pictures' colours beside their grey, once they are equally bright.

    In levels of 255 at full saturation. `warp_P4` says where the left picture lies in the right one.
    """
    rows = _lerp(right_PGG3, warp_P4[:, 0:1] * _AXIS_G + warp_P4[:, 1:2]).transpose(0, 2, 1, 3)
    seen = _lerp(rows, warp_P4[:, 2:3] * _AXIS_G + warp_P4[:, 3:4]).transpose(0, 2, 1, 3)
    still = left_PGG3[:, 1:-1, 1:-1]
    grey_still, grey_seen = (one.mean(axis=3, keepdims=True) for one in (still, seen))
    gain = (grey_still * grey_seen).sum(axis=(1, 2, 3), keepdims=True)
    gain /= np.maximum((grey_seen**2).sum(axis=(1, 2, 3), keepdims=True), 1)
    difference = (still - grey_still) - gain * (seen - grey_seen)
    level: Array = np.sqrt((difference**2).mean(axis=(1, 2, 3)))
    return level


def _patch_correlations(left_PSS: Array, right_PSS: Array) -> Array:
    side = _AXIS_S.size // _PATCHES
    patches = [one.reshape(-1, _PATCHES, side, _PATCHES, side) for one in (left_PSS, right_PSS)]
    left, right = (patch - patch.mean(axis=(2, 4), keepdims=True) for patch in patches)
    energy = np.sqrt((left**2).sum(axis=(2, 4)) * (right**2).sum(axis=(2, 4)))
    correlation: Array = ((left * right).sum(axis=(2, 4)) + _PATCH_NOISE) / (energy + _PATCH_NOISE)
    return correlation.reshape(-1, _PATCHES**2)


def _aligned(target_PSS: Array, moving_PSS: Array, warp_P4: Array) -> tuple[Array, Array]:
    """The moving pictures as seen through their best warp, and the warps: inverse compositional Gauss-Newton."""
    still = _standardized(target_PSS)
    slopes_P4D = _slopes(still)
    inverse_P44 = np.linalg.inv(slopes_P4D @ slopes_P4D.transpose(0, 2, 1) + _DAMPING * np.eye(4, dtype=np.float32))
    seen = _warped(moving_PSS, warp_P4)
    for _ in range(_STEPS):
        excess_PD = (_standardized(seen) - still).reshape(len(still), _AXIS_S.size**2, 1)
        step_P4 = np.clip((inverse_P44 @ (slopes_P4D @ excess_PD))[:, :, 0], -_MAX_STEP, _MAX_STEP)
        scale = warp_P4[:, 0::2] / (1 + step_P4[:, 0::2])
        shift = warp_P4[:, 1::2] - scale * step_P4[:, 1::2]
        warp_P4 = np.stack([scale[:, 0], shift[:, 0], scale[:, 1], shift[:, 1]], axis=1).astype(np.float32)
        seen = _warped(moving_PSS, warp_P4)
    return seen, warp_P4


def _slopes(still_PSS: Array) -> Array:
    """How each value changes with vertical scale and shift, then horizontal ones, beside any change of contrast."""
    down, across = (slope.astype(np.float32) * np.float32(SIDE / 2) for slope in np.gradient(still_PSS, axis=(1, 2)))
    slopes_P4SS = np.stack([down * _AXIS_S[:, None], down, across * _AXIS_S, across], axis=1)
    slopes_P4D: Array = slopes_P4SS.reshape(len(still_PSS), 4, _AXIS_S.size**2).astype(np.float32)
    still_P1D = still_PSS.reshape(len(still_PSS), 1, _AXIS_S.size**2)
    slopes_P4D -= slopes_P4D.mean(axis=2, keepdims=True)
    slopes_P4D -= (slopes_P4D @ still_P1D.transpose(0, 2, 1)) * still_P1D
    return slopes_P4D


def _inside(warp_P4: Array) -> NDArray[np.bool_]:
    scale, shift = warp_P4[:, 0::2], warp_P4[:, 1::2]
    fits = (scale >= _MIN_SCALE) & (scale + np.abs(shift) <= 1 + _MAX_OVERHANG)
    answer: NDArray[np.bool_] = np.all(fits, axis=1)
    return answer


def _blurred(grey_PSS: Array, radius_px: float) -> Array:
    # Every command reads the settings that stand beside the search; only the search itself needs scipy.
    from scipy.ndimage import gaussian_filter

    blurred: Array = gaussian_filter(grey_PSS, (0, radius_px, radius_px), mode="nearest")
    return blurred


def _details(grey_PSS: Array) -> Array:
    return _standardized(grey_PSS - _blurred(grey_PSS, _DETAIL_PX))


def _product(left_PSS: Array, right_PSS: Array) -> Array:
    answer: Array = np.einsum("pij,pij->p", left_PSS, right_PSS)
    return answer


def _warped(picture_PSS: Array, warp_P4: Array) -> Array:
    """Sampled bilinearly at scale × place + shift, edges repeated."""
    rows = _lerp(picture_PSS, warp_P4[:, 0:1] * _AXIS_S + warp_P4[:, 1:2])
    return _lerp(rows.transpose(0, 2, 1), warp_P4[:, 2:3] * _AXIS_S + warp_P4[:, 3:4]).transpose(0, 2, 1)


def _lerp(picture_PSS: Array, at_PS: Array) -> Array:
    """Between the rows of each picture, at the given places from -1 to 1."""
    side = picture_PSS.shape[1]
    place = np.clip((at_PS + 1) / 2 * side - 0.5, 0, side - 1)
    below = np.minimum(place.astype(np.int64), side - 2)
    part = (place - below).reshape(*at_PS.shape, *(1,) * (picture_PSS.ndim - 2)).astype(np.float32)
    who = np.arange(len(picture_PSS))[:, None]
    between: Array = picture_PSS[who, below] * (1 - part) + picture_PSS[who, below + 1] * part
    return between


def _standardized(grey_PSS: Array) -> Array:
    """Zero mean and unit length, so that a product is a correlation."""
    centred = grey_PSS - grey_PSS.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt(_product(centred, centred))
    standardized: Array = centred / np.maximum(length, np.float32(1e-6))[:, None, None]
    return standardized
