"""The value of each score, and the function of scikit-learn or torchmetrics that it comes from.

Some are computed in a form that costs less and gives the same value: means over images in blocks of rows, the log loss
of the probabilities of what is true, a rank score of groups of images with one score, weighted by how many they are.
Where a library would return zero with a warning for what is undefined, the value is NaN. No library has the top-k
accuracy of multi-label tasks.

Letters: N images, R images of a block, K classes, G groups.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import sklearn.metrics as library
from numpy.typing import NDArray

from components.evaluation.calibration import NUM_BINS
from components.evaluation.level_predictions import Floats, LevelPredictions, blocks_of

_BELOW_ONE = np.nextafter(1.0, 0.0)
"""torchmetrics would give a confidence of exactly 1 a bin of its own."""

_AVERAGED: Mapping[str, Callable[..., float]] = {
    "precision": partial(library.precision_score, zero_division=0),
    "recall": partial(library.recall_score, zero_division=np.nan),
    "f1": partial(library.f1_score, zero_division=np.nan),
}


def values_of(level: LevelPredictions, *, top_k: int) -> dict[str, float]:
    """Every score but those of ranks."""
    found = level.exact_scores() | _averages(level) | _calibration_errors(level)
    found["log_loss"] = _over_images(partial(_log_loss, level), level)
    found["brier"] = _over_images(level.brier, level)
    found["top_k_accuracy"] = _over_images(partial(level.top_k_accuracy, top_k=top_k), level)
    return {name: float(value) for name, value in found.items()}


def values_of_classes(level: LevelPredictions) -> dict[str, NDArray[Any]]:
    """Precision, recall and F1 of each class [K], 0 where undefined; its images; its confusion with the rest."""
    both, label_K = level.for_library(), np.arange(len(level.names))
    precision_K, recall_K, f1_K, images_K = library.precision_recall_fscore_support(
        *both, labels=label_K, zero_division=0
    )
    two_by_two_K22 = library.multilabel_confusion_matrix(*both, labels=label_K)
    return {
        "precision": precision_K,
        "recall": recall_K,
        "f1": f1_K,
        "images": images_K,
        "true_positives": two_by_two_K22[:, 1, 1],
        "false_negatives": two_by_two_K22[:, 1, 0],
        "false_positives": two_by_two_K22[:, 0, 1],
        "true_negatives": two_by_two_K22[:, 0, 0],
    }


def macro_f1_at(level: LevelPredictions, rows: NDArray[np.int64]) -> float:
    """Of some of the images, over the classes that they have; NaN where they have none."""
    target, predicted = (side[rows] for side in level.for_library())
    present = level.classes_at(rows)
    return float(_AVERAGED["f1"](target, predicted, average="macro", labels=present)) if len(present) else np.nan


def roc_auc(positives_G: NDArray[np.int64], negatives_G: NDArray[np.int64]) -> float:
    """Of groups from the least to the most probable one."""
    return _of_groups(library.roc_auc_score, positives_G, negatives_G)


def average_precision(positives_G: NDArray[np.int64], negatives_G: NDArray[np.int64]) -> float:
    """Of groups from the least to the most probable one."""
    return _of_groups(library.average_precision_score, positives_G, negatives_G)


def _of_groups(function: Callable[..., float], positives_G: NDArray[np.int64], negatives_G: NDArray[np.int64]) -> float:
    yes, no = np.flatnonzero(positives_G), np.flatnonzero(negatives_G)
    true = np.arange(len(yes) + len(no)) < len(yes)
    weight = np.concatenate([positives_G[yes], negatives_G[no]])
    return float(function(true, np.concatenate([yes, no]), sample_weight=weight))


def _averages(level: LevelPredictions) -> dict[str, float]:
    """Macro and weighted over the classes that the images have, micro over all predictions."""
    present = np.flatnonzero(level.images_K)
    found: dict[str, float] = {}
    for name, function in _AVERAGED.items():
        call = partial(function, *level.for_library())
        found[f"micro_{name}"] = call(average="micro", labels=np.arange(len(level.names)))
        for averaged in ("macro", "weighted"):
            found[f"{averaged}_{name}"] = call(average=averaged, labels=present) if len(present) else np.nan
    # scikit-learn's balanced_accuracy_score is the same mean, but warns of predicted classes that no image has.
    found["balanced_accuracy"] = found["macro_recall"]
    return found


def _over_images(call: Callable[[slice], float], level: LevelPredictions) -> float:
    """The mean over blocks of a mean over images."""
    blocks = list(blocks_of(level.num_images))
    return float(np.average([call(rows) for rows in blocks], weights=[rows.stop - rows.start for rows in blocks]))


def _log_loss(level: LevelPredictions, rows: slice) -> float:
    truth = level.truth_probabilities(rows).ravel()
    return float(library.log_loss(np.ones(len(truth)), truth, labels=[0, 1]))


def _calibration_errors(level: LevelPredictions) -> dict[str, float]:
    found = {"expected_calibration_error": _calibration_error(level)}
    if level.unscaled is not None:
        found["expected_calibration_error_before_scaling"] = _calibration_error(level.unscaled)
    return found


def _calibration_error(level: LevelPredictions) -> float:
    """Of the predictions; in multi-label tasks, of the prediction for each label."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    blocks = [level.confidences(rows) for rows in blocks_of(level.num_images)]
    confidence, true = (np.concatenate([block[side].ravel() for block in blocks]) for side in range(2))
    below_one: Floats = np.minimum(confidence.astype(np.float64), _BELOW_ONE)
    both = torch.from_numpy(below_one), torch.from_numpy(true.astype(np.int64))
    return float(binary_calibration_error(*both, n_bins=NUM_BINS, validate_args=False))
