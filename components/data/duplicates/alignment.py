"""Similarity of two images after one is aligned with the other by shift and scale.

This verifies pairs of near hashes. Gauss-Newton steps (Baker and Matthews 2004, "Lucas-Kanade 20 Years On") find the
shift and scale of each axis at which one 32×32 gray thumbnail best matches a window of the other, independent of
brightness and contrast. The details and the coarse colors then decide.
Shapes: U images, P pairs, S side of the thumbnail, G side of the color grid.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from components.data.images.perceptual_hash import COLOUR_SIDE, CROPS, SIDE, Window

Array = NDArray[np.float32]

_BATCH_PAIRS = 256
"""Pairs per batch, whose thumbnails and gradients fit into a processor's cache."""
_STEPS = 6
_DAMPING = np.float32(1e-3)
_MAX_STEP = 0.08
"""Largest change in one step, in half sides."""
_MIN_DETAILS = 0.92
"""Least correlation of the details; without it, two images of the same layout and background would match."""
_PATCHES = 4
"""Patches per side: each of 4 × 4 patches is compared separately."""
_MIN_PATCH = 0.9
"""Least correlation in each patch but two: a clipped highlight or a caption may differ, no more."""
_PATCH_NOISE = np.float32(2e-4)
"""Fraction of the image's variance below which a patch counts as plain, and matches whatever its noise."""
_MAX_COLOUR_DIFFERENCE = 12.0
"""Levels of 255; JPEG and clipping change the coarse colors of an image by less, another dye by more."""
_FINE_PX = 1.0
_MAX_RESIDUAL = np.float32(0.9)
"""Largest residual, as a fraction of the fine details of the smoother image. Recompressing and resizing change little
else, so copies differ by less (99% of them under 0.2 on photographs), two drawings of one shape by more."""
_DETAIL_PX = 2.0
"""Radius of the blur whose subtraction leaves the details."""
_PLAIN_DEVIATION = 2.0
"""Standard deviation in gray levels below which an image has no structure to compare."""
_EDGE_PX = 2
"""Margin that every comparison ignores, so that pixels beyond a crop or in a frame don't count."""
_INNER = np.s_[:, _EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX]
_AXIS_S = ((np.arange(SIDE) + 0.5) / SIDE * 2 - 1).astype(np.float32)[_EDGE_PX:-_EDGE_PX]
_AXIS_G = ((np.arange(COLOUR_SIDE) + 0.5) / COLOUR_SIDE * 2 - 1).astype(np.float32)[1:-1]
_MAX_OVERHANG = 0.06
"""Distance, in half sides, by which the window may exceed the other image."""
_MIN_SCALE = 0.8
"""Least side of the window, as a fraction of the image."""

VIEWS: tuple[tuple[tuple[Window, Window], bool], ...] = tuple(product(CROPS, (False, True)))
"""Windows of an image, each unflipped and flipped, whose hashes give candidate pairs."""
_FLIPPED_V = np.array([flipped for _, flipped in VIEWS])


def _warp(crop: tuple[Window, Window], flipped: bool) -> list[float]:
    """Vertical scale and shift, horizontal scale and shift, in half sides from the center."""
    rows, columns = crop
    centre = columns[0] + columns[1] - 1
    return [rows[1] - rows[0], rows[0] + rows[1] - 1, columns[1] - columns[0], -centre if flipped else centre]


_WARP_V4 = np.array([_warp(*view) for view in VIEWS], dtype=np.float32)


@dataclass(frozen=True)
class Pictures:
    smooth_USS: Array
    """Slightly blurred thumbnails, so that gradients point the right way over a pixel or two."""
    plain_U: NDArray[np.bool_]
    """Whether an image has no structure, so that it never matches."""
    fine_U: Array
    """Fraction of the variance in details finer than two pixels."""
    colour_UGG3: NDArray[np.uint8]

    @classmethod
    def of(cls, grey_USS: NDArray[np.uint8], colour_UGG3: NDArray[np.uint8]) -> "Pictures":
        smooth = _blurred(grey_USS.astype(np.float32), 0.7)
        inner = _standardized(smooth[_INNER])
        fine = inner - _blurred(inner, _FINE_PX)
        return cls(smooth, smooth.std(axis=(1, 2)) < _PLAIN_DEVIATION, _product(fine, fine), colour_UGG3)


def likeness(pictures: Pictures, pairs: NDArray[np.int64], starts: NDArray[np.int64]) -> Array:
    """Correlation in [-1, 1], for each pair (i, j), of image i with the best matching window of image j.

    `starts` are indices of VIEWS, the windows from which the search starts. -1: the images differ in their details, or
    the best window lies outside of the other image.
    """
    answer = np.full(len(pairs), -1, np.float32)
    for begin in range(0, len(pairs), _BATCH_PAIRS):
        batch = slice(begin, begin + _BATCH_PAIRS)
        answer[batch] = _likeness(pictures, pairs[batch], starts[batch])
    return answer


def _likeness(pictures: Pictures, pairs: NDArray[np.int64], starts: NDArray[np.int64]) -> Array:
    target, moving = pictures.smooth_USS[pairs[:, 0]][_INNER], pictures.smooth_USS[pairs[:, 1]]
    warp, flipped = _WARP_V4[starts], _FLIPPED_V[starts]
    moving[flipped] = moving[flipped, :, ::-1]
    seen, warp = _aligned(target, moving, warp)
    left, right = _standardized(target), _standardized(seen)
    alike = _inside(warp) & (_product(_details(target), _details(seen)) >= _MIN_DETAILS)
    alike &= np.sort(_patch_correlations(left, right), axis=1)[:, 2] >= _MIN_PATCH
    colours, moving_colours = (pictures.colour_UGG3[one].astype(np.float32) for one in pairs.T)
    moving_colours[flipped] = moving_colours[flipped, :, ::-1]
    alike &= _colour_differences(colours, moving_colours, warp) <= _MAX_COLOUR_DIFFERENCE
    correlation = _product(left, right)
    alike &= 1 - correlation <= _MAX_RESIDUAL * pictures.fine_U[pairs].min(axis=1)
    return np.where(alike, correlation, np.float32(-1))


def _colour_differences(left_PGG3: Array, right_PGG3: Array, warp_P4: Array) -> Array:
    """Root mean square difference of the chroma of two images at equal brightness, in levels of 255.

    `warp_P4` maps the left image into the right one.
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
    """The moving thumbnails at their best warp, and the warps, by inverse compositional Gauss-Newton."""
    still = _standardized(target_PSS)
    gradient_P4D = _gradients(still)
    inverse_P44 = np.linalg.inv(gradient_P4D @ gradient_P4D.transpose(0, 2, 1) + _DAMPING * np.eye(4, dtype=np.float32))
    seen = _warped(moving_PSS, warp_P4)
    for _ in range(_STEPS):
        excess_PD = (_standardized(seen) - still).reshape(len(still), _AXIS_S.size**2, 1)
        step_P4 = np.clip((inverse_P44 @ (gradient_P4D @ excess_PD))[:, :, 0], -_MAX_STEP, _MAX_STEP)
        scale = warp_P4[:, 0::2] / (1 + step_P4[:, 0::2])
        shift = warp_P4[:, 1::2] - scale * step_P4[:, 1::2]
        warp_P4 = np.stack([scale[:, 0], shift[:, 0], scale[:, 1], shift[:, 1]], axis=1).astype(np.float32)
        seen = _warped(moving_PSS, warp_P4)
    return seen, warp_P4


def _gradients(still_PSS: Array) -> Array:
    """Gradients of the pixels by vertical, then horizontal scale and shift, orthogonal to brightness and contrast."""
    down, across = (slope.astype(np.float32) * np.float32(SIDE / 2) for slope in np.gradient(still_PSS, axis=(1, 2)))
    gradient_P4SS = np.stack([down * _AXIS_S[:, None], down, across * _AXIS_S, across], axis=1)
    gradient_P4D: Array = gradient_P4SS.reshape(len(still_PSS), 4, _AXIS_S.size**2).astype(np.float32)
    still_P1D = still_PSS.reshape(len(still_PSS), 1, _AXIS_S.size**2)
    gradient_P4D -= gradient_P4D.mean(axis=2, keepdims=True)
    gradient_P4D -= (gradient_P4D @ still_P1D.transpose(0, 2, 1)) * still_P1D
    return gradient_P4D


def _inside(warp_P4: Array) -> NDArray[np.bool_]:
    scale, shift = warp_P4[:, 0::2], warp_P4[:, 1::2]
    fits = (scale >= _MIN_SCALE) & (scale + np.abs(shift) <= 1 + _MAX_OVERHANG)
    answer: NDArray[np.bool_] = np.all(fits, axis=1)
    return answer


def _blurred(grey_PSS: Array, radius_px: float) -> Array:
    # Imported here: reading the settings must not need scipy.
    from scipy.ndimage import gaussian_filter

    blurred: Array = gaussian_filter(grey_PSS, (0, radius_px, radius_px), mode="nearest")
    return blurred


def _details(grey_PSS: Array) -> Array:
    return _standardized(grey_PSS - _blurred(grey_PSS, _DETAIL_PX))


def _product(left_PSS: Array, right_PSS: Array) -> Array:
    answer: Array = np.einsum("pij,pij->p", left_PSS, right_PSS)
    return answer


def _warped(picture_PSS: Array, warp_P4: Array) -> Array:
    """Thumbnails sampled bilinearly at scale × coordinate + shift, with repeated edges."""
    rows = _lerp(picture_PSS, warp_P4[:, 0:1] * _AXIS_S + warp_P4[:, 1:2])
    return _lerp(rows.transpose(0, 2, 1), warp_P4[:, 2:3] * _AXIS_S + warp_P4[:, 3:4]).transpose(0, 2, 1)


def _lerp(picture_PSS: Array, at_PS: Array) -> Array:
    """Linear interpolation between the rows of each image, at coordinates from -1 to 1."""
    side = picture_PSS.shape[1]
    row_PS = np.clip((at_PS + 1) / 2 * side - 0.5, 0, side - 1)
    below = np.minimum(row_PS.astype(np.int64), side - 2)
    weight = (row_PS - below).reshape(*at_PS.shape, *(1,) * (picture_PSS.ndim - 2)).astype(np.float32)
    image = np.arange(len(picture_PSS))[:, None]
    between: Array = picture_PSS[image, below] * (1 - weight) + picture_PSS[image, below + 1] * weight
    return between


def _standardized(grey_PSS: Array) -> Array:
    """Thumbnails of zero mean and unit length, whose products are correlations."""
    centred = grey_PSS - grey_PSS.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt(_product(centred, centred))
    standardized: Array = centred / np.maximum(length, np.float32(1e-6))[:, None, None]
    return standardized
