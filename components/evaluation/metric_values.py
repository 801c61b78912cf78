"""The value of each score, and the function of scikit-learn or torchmetrics that it comes from.

Some are asked in a form that costs less and has the same answer: means over images in blocks of rows, the log loss of
the probabilities of what is true, a rank score of groups of images with one score, weighted by how many they are. Where
a library would answer with a warning and a zero for what nobody can know, the value is NaN. No library has the top-k
accuracy of sets of labels.

Letters: N images, R images of a block, K classes, G groups.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import sklearn.metrics as library
from numpy.typing import NDArray

from components.evaluation.calibration import NUM_BINS
from components.evaluation.level_predictions import Floats, Judged, blocks_of

_BELOW_ONE = np.nextafter(1.0, 0.0)
"""torchmetrics would give a confidence of exactly 1 a bin of its own."""

_OF_ANSWERS: Mapping[str, Callable[..., float]] = {"accuracy": library.accuracy_score}
_OF_SETS: Mapping[str, Callable[..., float]] = {
    **_OF_ANSWERS,
    "subset_accuracy": library.accuracy_score,
    "hamming_loss": library.hamming_loss,
}
_AVERAGED: Mapping[str, Callable[..., float]] = {
    "precision": partial(library.precision_score, zero_division=0),
    "recall": partial(library.recall_score, zero_division=np.nan),
    "f1": partial(library.f1_score, zero_division=np.nan),
}


def values_of(judged: Judged, *, top_k: int) -> dict[str, float]:
    """Every score but those of ranks."""
    of_answers = _OF_SETS if not judged.exclusive else _OF_ANSWERS
    found = {name: call(judged.target, judged.predicted) for name, call in of_answers.items()}
    found |= _averages(judged) | _calibration_errors(judged)
    found |= {"log_loss": _over_images(_log_loss, judged), "brier": _over_images(_brier, judged)}
    found["top_k_accuracy"] = _over_images(partial(_top_k_accuracy, top_k=top_k), judged)
    return {name: float(value) for name, value in found.items()}


def values_of_classes(judged: Judged) -> dict[str, NDArray[Any]]:
    """Of each class [K]: precision, recall and F1, 0 where nothing was found; images; its confusion with the rest."""
    answers, label_K = _answers(judged), np.arange(len(judged.names))
    precision_K, recall_K, f1_K, images_K = library.precision_recall_fscore_support(
        *answers, labels=label_K, zero_division=0
    )
    two_by_two_K22 = library.multilabel_confusion_matrix(*answers, labels=label_K)
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


def macro_f1_at(judged: Judged, rows: NDArray[np.int64]) -> float:
    """Of some of the images, over the classes that they have; NaN where they have none."""
    target, said = (answers[rows] for answers in _answers(judged))
    present = np.unique(target) if judged.exclusive else np.flatnonzero(target.any(axis=0))
    return float(_AVERAGED["f1"](target, said, average="macro", labels=present)) if len(present) else np.nan


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


def _answers(judged: Judged) -> tuple[NDArray[Any], NDArray[Any]]:
    """The truth and what is said. scikit-learn takes sets of a single label for classes 0 and 1: they get another."""
    found = judged.target, judged.predicted
    if not judged.exclusive and len(judged.names) == 1:
        target_N2, said_N2 = (np.pad(flags_N1, ((0, 0), (0, 1))) for flags_N1 in found)
        return target_N2, said_N2
    return found


def _averages(judged: Judged) -> dict[str, float]:
    """Macro and weighted over the classes that the images have, micro over all answers."""
    present = np.flatnonzero(judged.images_K)
    found: dict[str, float] = {}
    for name, function in _AVERAGED.items():
        call = partial(function, *_answers(judged))
        found[f"micro_{name}"] = call(average="micro", labels=np.arange(len(judged.names)))
        for averaged in ("macro", "weighted"):
            found[f"{averaged}_{name}"] = call(average=averaged, labels=present) if len(present) else np.nan
    # scikit-learn's balanced_accuracy_score is the same mean, but warns of answers that no image has.
    found["balanced_accuracy"] = found["macro_recall"]
    return found


def _over_images(call: Callable[[Judged, slice], float], judged: Judged) -> float:
    """The mean over blocks of a mean over images."""
    blocks = list(blocks_of(judged.num_images))
    return float(
        np.average([call(judged, rows) for rows in blocks], weights=[rows.stop - rows.start for rows in blocks])
    )


def _log_loss(judged: Judged, rows: slice) -> float:
    truth = judged.truth_probabilities(rows).ravel()
    return float(library.log_loss(np.ones(len(truth)), truth, labels=[0, 1]))


def _brier(judged: Judged, rows: slice) -> float:
    probability_RK, target = judged.probabilities(rows), judged.target[rows]
    if not judged.exclusive:
        return float(library.brier_score_loss(target.ravel(), probability_RK.ravel(), pos_label=True))
    if len(judged.names) == 1:  # Whose probability is 1, which scikit-learn takes for that of the second of two.
        return 0.0
    labels = np.arange(len(judged.names))
    return float(library.brier_score_loss(target, probability_RK, labels=labels, scale_by_half=False))


def _top_k_accuracy(judged: Judged, rows: slice, *, top_k: int) -> float:
    num_classes = len(judged.names)
    if not judged.exclusive:
        return float((judged.ranks(rows) < top_k).mean())
    if top_k >= num_classes:
        return 1.0
    # Of equally probable classes scikit-learn takes the last ones, the answer is the first one.
    backwards_RK, labels = judged.logits_NK[rows, ::-1], np.arange(num_classes)
    target_R = num_classes - 1 - judged.target[rows]
    return float(library.top_k_accuracy_score(target_R, backwards_RK, k=top_k, labels=labels))


def _calibration_errors(judged: Judged) -> dict[str, float]:
    found = {"expected_calibration_error": _calibration_error(judged)}
    if judged.unscaled is not None:
        found["expected_calibration_error_before_scaling"] = _calibration_error(judged.unscaled)
    return found


def _calibration_error(judged: Judged) -> float:
    """Of the answers; of sets, of what is said about each label."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    blocks = [judged.confidences(rows) for rows in blocks_of(judged.num_images)]
    confidence, right = (np.concatenate([block[side].ravel() for block in blocks]) for side in range(2))
    sure: Floats = np.minimum(confidence.astype(np.float64), _BELOW_ONE)
    told = torch.from_numpy(sure), torch.from_numpy(right.astype(np.int64))
    return float(binary_calibration_error(*told, n_bins=NUM_BINS, validate_args=False))
