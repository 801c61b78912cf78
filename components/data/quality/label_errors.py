"""Suspected label errors, found by confident learning on out-of-fold probabilities of a linear probe.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 70): the
threshold of a class is its mean probability over the images with its label. An image is a suspect when a class other
than its label exceeds its threshold by most, or falls short of it by least: the paper leaves the latter out, but with
it fewer errors are missed where probabilities are low. Suspects are ranked by how improbable their label is.

Shapes: N images, K classes, F features.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.shared.errors import SettingsError
from components.shared.settings import Settings
from components.task.task import Task

Features = NDArray[np.float32]


class LabelSettings(Settings):
    """params.yaml: labels."""

    corrections: str | None = None
    """A CSV in data/reference, filled in like data/validated/label_errors.csv; moves no image; null: none."""
    find_errors: bool = False
    """true: list suspected label errors; decodes all images again, a minute per 10,000 and core."""
    features: str | None = None
    """An .onnx in data/reference, as `darkroom features` writes it; null: random patches, weaker.

    It takes uint8 RGB [batch, side, side, 3].
    """
    folds: int = Field(default=5, ge=2, le=20)
    """Folds of the cross-validation; more fit the probe on more images and take longer."""
    max_suspects: int = Field(default=1000, ge=1)
    """Number of suspects listed, the most suspicious first."""
    seed: int = 7
    """Another seed draws other folds and patches."""


@dataclass(frozen=True)
class Suspect:
    path: str
    label: str
    suggested: str
    score: float
    """One minus the probability of the given label (the paper's self-confidence), in [0, 1]."""


@dataclass(frozen=True)
class LabelSearch:
    suspects: list[Suspect]
    """Most suspicious first."""
    skipped_classes: list[str]
    """Classes with too few different images to be searched, in order."""


def check_searchable(settings: LabelSettings, task: type[Task]) -> None:
    """Raises SettingsError where the search is on and the data is multi-label."""
    if settings.find_errors and not task.exclusive:
        raise SettingsError(
            "params.yaml: labels.find_errors: is true, but the data is multi-label, and the search supports single "
            "labels only; set labels.find_errors to false"
        )


def find_label_errors(
    features_NF: Features,
    labels: Sequence[str],
    paths: Sequence[str],
    *,
    sha256: Sequence[str] | None = None,
    settings: LabelSettings,
) -> LabelSearch:
    """The suspects; a class with fewer different images than folds is skipped.

    Copies of an image (by `sha256`) get their probabilities from one probe, which was fitted on none of them: else a
    copy with the same wrong label would confirm it. Raises SettingsError for features that aren't finite.
    """
    if len(broken := np.flatnonzero(~np.isfinite(features_NF).all(axis=1))):
        raise SettingsError(
            f"params.yaml: labels.features: the model gives {paths[broken[0]]} a number that isn't finite "
            f"({len(broken)} of {len(paths)} images); export it again, or set it to null"
        )
    names, given_N = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    original_N = _originals(range(len(labels)) if sha256 is None else sha256)
    images_K = np.bincount(given_N[np.unique(original_N)], minlength=len(names))
    skipped = names[images_K < settings.folds].tolist()
    if len(names) - len(skipped) < 2:
        return LabelSearch([], names.tolist())
    row_M = np.flatnonzero(images_K[given_N] >= settings.folds)
    searched, given_M = np.unique(given_N[row_M], return_inverse=True)
    probability_MK = out_of_fold_probabilities(
        features_NF[row_M], given_M, original_N=_originals(original_N[row_M]), folds=settings.folds, seed=settings.seed
    )
    suggested_M, score_M = confident_disagreement(probability_MK, given_M)
    suspects = [
        Suspect(
            path=paths[int(row_M[at])],
            label=str(names[searched[given_M[at]]]),
            suggested=str(names[searched[suggested_M[at]]]),
            score=round(float(score_M[at]), 6),
        )
        for at in np.flatnonzero(suggested_M != given_M)
    ]
    suspects.sort(key=lambda suspect: (-suspect.score, suspect.path))
    return LabelSearch(suspects[: settings.max_suspects], skipped)


def _originals(contents: Sequence[str] | range | NDArray[Any]) -> NDArray[np.intp]:
    """For each image the index of the first one with the same content."""
    _, first, content_N = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    originals: NDArray[np.intp] = first[content_N]
    return originals


def confident_disagreement(
    probability_NK: NDArray[np.float64], given_N: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each image the class that exceeds its threshold by most, and one minus the probability of its label."""
    num_classes = probability_NK.shape[1]
    threshold_K = np.array([probability_NK[given_N == each, each].mean() for each in range(num_classes)])
    excess_NK = probability_NK - threshold_K
    suggested_N = excess_NK.argmax(axis=1)
    rows = np.arange(len(given_N))
    return suggested_N, 1.0 - probability_NK[rows, given_N]


def out_of_fold_probabilities(
    features_NF: Features,
    given_N: NDArray[np.intp],
    *,
    original_N: NDArray[np.intp] | None = None,
    folds: int,
    seed: int,
) -> NDArray[np.float64]:
    """Probabilities [N, K] of logistic regressions that were fitted neither on the image nor on a copy of it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    probability_NK = np.zeros((len(given_N), int(given_N.max()) + 1))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    # Scaled once over all images: mean and deviation don't depend on the labels.
    scaled_NF = (features_NF - features_NF.mean(0)) / (features_NF.std(0) + 1e-6)
    # Weaker penalties only fit the wrong labels; the number of features sets the scale of the margin.
    strength = 1.0 / scaled_NF.shape[1]
    original_N = np.arange(len(given_N)) if original_N is None else original_N
    originals = np.unique(original_N)
    for _, fold in splitter.split(originals, given_N[originals]):
        held_out = np.isin(original_N, originals[fold])
        probe = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
        probe.fit(scaled_NF[~held_out], given_N[~held_out])
        probability_NK[np.ix_(held_out, probe.classes_)] = probe.predict_proba(scaled_NF[held_out])
    return probability_NK


def suspects_csv(suspects: Sequence[Suspect]) -> str:
    """A CSV to fill in: write the right label under `corrected`, or leave it empty to keep the label."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("path", "label", "suggested", "score", "corrected"))
    writer.writerows((one.path, one.label, one.suggested, f"{one.score:.6f}", "") for one in suspects)
    return stream.getvalue()
