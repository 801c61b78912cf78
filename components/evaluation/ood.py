"""Whether a model detects out-of-distribution images.

Letters: N images, T logits, H height, W width, C channels.
"""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.images.decoding import IMAGE_ENDINGS, UndecodableImage
from components.data.images.preprocessing import PreprocessSettings, square_of
from components.evaluation.bootstrap import fraction_interval
from components.evaluation.prediction_sets import rank_above
from components.evaluation.ranking_metrics import rank_scores
from components.records.analysis import OodScores
from components.shared.errors import DataError, SettingsError
from components.task.task import DecisionRule, Task

_TILES = 4


def fit_ood_threshold(logits_NT: NDArray[np.floating[Any]], task: Task, *, keep: float) -> float | None:
    """The free energy that an image like these stays below with the probability `keep`; None where they are too few.

    The finite-sample quantile of split conformal prediction, as for prediction sets.
    """
    rank = rank_above(len(logits_NT), keep)
    return float(np.sort(task.ood_score(logits_NT))[rank - 1]) if rank <= len(logits_NT) else None


def ood_scores(
    name: str,
    known_logits_NT: NDArray[np.float32],
    other_logits_NT: NDArray[np.float32],
    task: Task,
    *,
    rule: DecisionRule,
    threshold: float,
) -> OodScores:
    both_NT = np.concatenate([known_logits_NT, other_logits_NT])
    other_N = np.arange(len(both_NT)) >= len(known_logits_NT)
    energy_N = task.ood_score(both_NT)
    probability_NK = task.probabilities(both_NT, temperature=rule.temperature)
    confidence_N = task.confidence(probability_NK, task.predictions(both_NT, rule))
    score_2N = np.stack([energy_N, -confidence_N]).astype(np.float32)
    other = np.flatnonzero(other_N)
    found, _ = rank_scores(lambda first, end: score_2N[first:end], [other, other], len(other_N), influences=False)
    (energy, probability), intervals = found.value_K.tolist(), found.intervals()
    detected = int((energy_N[other_N] > threshold).sum())
    return OodScores(
        name=name,
        images=len(other),
        energy_auroc=energy,
        energy_auroc_interval=intervals[0],
        max_probability_auroc=probability,
        max_probability_auroc_interval=intervals[1],
        detected=detected / len(other),
        detected_interval=fraction_interval(detected, len(other)),
    )


def folder_images(folder: Path, preprocess: PreprocessSettings, *, most: int) -> NDArray[np.uint8]:
    """Squares of the images below a folder, at most `most`, spread over it; files that are no images are left out.

    Raises SettingsError where there is no such folder, DataError where it holds no image that can be read.
    """
    if not folder.is_dir():
        raise SettingsError(f"evaluate.ood: {folder} isn't there; give a folder of images, or null")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS and file.is_file())
    chosen = np.unique(np.linspace(0, max(0, len(files) - 1), min(most, len(files))).astype(int))
    squares = []
    for number in chosen:
        with contextlib.suppress(UndecodableImage):
            squares.append(square_of(files[number].read_bytes(), preprocess))
    if not squares:
        raise DataError(f"evaluate.ood: {folder} holds no image that can be read; give another folder, or null")
    return np.stack(squares)


def noise_images(count: int, side_px: int, *, seed: int) -> NDArray[np.uint8]:
    """Squares of noise, each with its own brightness, contrast and grain [N, H, W, C]."""
    import cv2

    images = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        grain = max(2, side_px // int(random.integers(1, 9)))
        small = random.normal(random.uniform(0.2, 0.8), random.uniform(0.05, 0.35), (grain, grain, 3)).clip(0, 1)
        images.append(cv2.resize(np.rint(255 * small).astype(np.uint8), (side_px, side_px)))
    return np.stack(images)


def shuffled_images(images_NHWC: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """The images cut into 4 × 4 tiles in random order: colours and textures stay, shapes are gone."""
    side = images_NHWC.shape[1] // _TILES
    if side == 0:
        return images_NHWC[:, ::-1]
    shuffled = images_NHWC.copy()
    corners = [(row * side, column * side) for row in range(_TILES) for column in range(_TILES)]
    for number, image_HWC in enumerate(images_NHWC):
        order = np.random.default_rng([seed, number]).permutation(len(corners))
        for (top, left), (from_top, from_left) in zip(corners, (corners[at] for at in order), strict=True):
            tile = image_HWC[from_top : from_top + side, from_left : from_left + side]
            shuffled[number, top : top + side, left : left + side] = tile
    return shuffled
