"""Features of images that need no trained weights: the responses of whitened random patches of the images themselves.

They come close to the learnt filters of one layer (Coates, Lee and Ng 2011, "An Analysis of Single-Layer Networks in
Unsupervised Feature Learning").
Shapes: N images, F filters, P values of a patch, S side in pixels, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.images.embeddings import Pixels, square
from components.shared.progress import Progress

SIDE_PX = 32
_PATCH_PX = 6
_FILTERS = 256
_SAMPLED_PATCHES = 50_000
_BATCH = 16


def patch_features(count: int, pixels: Pixels, *, seed: int, progress: Progress) -> NDArray[np.float32]:
    """Features [N, 8 F]: mean positive and negative responses of the filters in each quarter of the image."""
    squares_NSSC = np.stack([square(pixels(row), SIDE_PX) for row in range(count)])
    filters_FP, mean_P, whiten_PP = _filters(squares_NSSC, np.random.default_rng(seed))
    weights_PF = whiten_PP @ filters_FP.T
    features = np.empty((count, 8 * len(filters_FP)), np.float32)
    for start in range(0, count, _BATCH):
        batch = squares_NSSC[start : start + _BATCH]
        features[start : start + len(batch)] = _pooled(_patches(batch), mean_P, weights_PF)
        progress("features", start + len(batch), count)
    return features


def _filters(squares_NSSC: NDArray[np.uint8], random: np.random.Generator) -> tuple[Any, Any, Any]:
    """Random whitened patches of unit length as filters, and the mean and the matrix that whiten a patch."""
    each = -(-_SAMPLED_PATCHES // len(squares_NSSC))
    chosen = []
    for start in range(0, len(squares_NSSC), 256):
        patches = _patches(squares_NSSC[start : start + 256])
        chosen += [one[random.choice(len(one), min(each, len(one)), replace=False)] for one in patches]
    sample = np.concatenate(chosen)[:_SAMPLED_PATCHES]
    mean_P = sample.mean(0)
    values, vectors = np.linalg.eigh(np.cov(sample, rowvar=False))
    whiten_PP = (vectors / np.sqrt(values + 0.1)) @ vectors.T
    white = (sample - mean_P) @ whiten_PP
    picked = white[random.choice(len(white), min(_FILTERS, len(white)), replace=False)]
    filters_FP = picked / (np.linalg.norm(picked, axis=1, keepdims=True) + 1e-6)
    return filters_FP.astype(np.float32), mean_P.astype(np.float32), whiten_PP.astype(np.float32)


def _patches(squares_NSSC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Every patch, [N, positions, P], normalized to the same brightness and contrast."""
    windows = np.lib.stride_tricks.sliding_window_view(squares_NSSC, (_PATCH_PX, _PATCH_PX), axis=(1, 2))
    flat = windows.reshape(len(squares_NSSC), windows.shape[1] * windows.shape[2], -1).astype(np.float32)
    flat -= flat.mean(axis=2, keepdims=True)
    flat /= np.sqrt(flat.var(axis=2, keepdims=True) + 10.0)
    return flat


def _pooled(
    patches_NPP: NDArray[np.float32], mean_P: NDArray[np.float32], weights_PF: NDArray[np.float32]
) -> NDArray[np.float32]:
    response = (patches_NPP - mean_P) @ weights_PF
    count, _, num_filters = response.shape
    side = SIDE_PX - _PATCH_PX + 1
    grid = response.reshape(count, side, side, num_filters)
    middle = side // 2
    halves = (slice(0, middle), slice(middle, side))
    signed = (np.maximum(grid - 0.25, 0), np.maximum(-grid - 0.25, 0))
    quarters = [one[:, rows, columns].mean(axis=(1, 2)) for one in signed for rows in halves for columns in halves]
    return np.concatenate(quarters, axis=1)
