"""Suspected label errors, found by confident learning on out-of-fold probabilities of a linear probe.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 70): the
threshold of a class is the mean probability that it has among the images that carry its label. An image is a suspect
when another class than its label exceeds its threshold by most, or falls short of it by least: with the latter, which
the paper leaves out, fewer errors are missed where probabilities are low. Suspects are ranked by how
improbable their label is.

The probe sees features that need no weights: whitened random patches of the images themselves, which come close to
learnt filters of one layer (Coates, Lee and Ng 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature
Learning"), or the outputs of a model file.
Letters: N images, K classes, F filters, P values of a patch, S side in pixels.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.images.embeddings import Pixels, square
from components.shared.errors import DataError, SettingsError, nearest
from components.shared.progress import Progress
from components.shared.settings import Settings
from components.task.single_label import SingleLabel
from components.task.task import Task

CORRECTIONS_COLUMNS = ("path", "label", "suggested", "score", "corrected")
SIDE_PX = 32
_PATCH_PX = 6
_FILTERS = 256
_SAMPLED_PATCHES = 50_000
_BATCH = 16

Features = NDArray[np.float32]


class LabelSettings(Settings):
    """params.yaml: labels."""

    corrections: str | None = None
    """A file in the judgements' folder with the columns path and corrected; null: labels stay as they came."""
    find_errors: bool = False
    """true: search for suspected label errors; decodes all images again, about a minute per 10,000 and core in all."""
    features: str | None = None
    """An .onnx file in the judgements' folder that takes uint8 RGB [batch, side, side, 3]; null: random patches."""
    folds: int = Field(default=5, ge=2, le=20)
    """Parts of which each gets its probabilities from a probe fitted on the others."""
    max_suspects: int = Field(default=1000, ge=1)
    """As many are listed."""
    seed: int = 7


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
    unjudged: list[str]
    """Classes that have too few pictures to be judged, in order."""


@dataclass(frozen=True)
class Correction:
    path: str
    label: str
    """As it came."""
    corrected: str


def check_searchable(settings: LabelSettings, task: type[Task]) -> None:
    """Raises SettingsError where the search is asked for and images carry sets of labels."""
    if settings.find_errors and not task.exclusive:
        raise SettingsError(
            "params.yaml: labels.find_errors: is true, but the images carry sets of labels, and the search judges one "
            "label an image; set labels.find_errors to false"
        )


def find_label_errors(
    features_NF: Features,
    labels: Sequence[str],
    paths: Sequence[str],
    *,
    sha256: Sequence[str] | None = None,
    settings: LabelSettings,
) -> LabelSearch:
    """The suspects, most suspicious first; a class that has fewer different pictures than there are folds is left out.

    Copies of a picture (by `sha256`) get their probabilities from one probe, which saw none of them: else a copy with
    the same wrong label would vouch for it. Raises SettingsError for features that aren't finite.
    """
    if len(broken := np.flatnonzero(~np.isfinite(features_NF).all(axis=1))):
        raise SettingsError(
            f"params.yaml: labels.features: the model gives {paths[broken[0]]} a number that isn't finite "
            f"({len(broken)} of {len(paths)} images); export it again, or set it to null"
        )
    names, given_N = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    original_N = _originals(range(len(labels)) if sha256 is None else sha256)
    pictures_K = np.bincount(given_N[np.unique(original_N)], minlength=len(names))
    unjudged = names[pictures_K < settings.folds].tolist()
    if len(names) - len(unjudged) < 2:
        return LabelSearch([], names.tolist())
    row_M = np.flatnonzero(pictures_K[given_N] >= settings.folds)
    kept, given_M = np.unique(given_N[row_M], return_inverse=True)
    probability_MK = out_of_fold_probabilities(
        features_NF[row_M], given_M, original_N=_originals(original_N[row_M]), folds=settings.folds, seed=settings.seed
    )
    suggested_M, score_M = confident_disagreement(probability_MK, given_M)
    suspects = [
        Suspect(
            path=paths[int(row_M[at])],
            label=str(names[kept[given_M[at]]]),
            suggested=str(names[kept[suggested_M[at]]]),
            score=round(float(score_M[at]), 6),
        )
        for at in np.flatnonzero(suggested_M != given_M)
    ]
    suspects.sort(key=lambda suspect: (-suspect.score, suspect.path))
    return LabelSearch(suspects[: settings.max_suspects], unjudged)


def _originals(kinds: Sequence[str] | range | NDArray[Any]) -> NDArray[np.intp]:
    """For each image the first of its kind."""
    _, first, kind_N = np.unique(np.asarray(kinds), return_index=True, return_inverse=True)
    originals: NDArray[np.intp] = first[kind_N]
    return originals


def confident_disagreement(
    probability_NK: NDArray[np.float64], given_N: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each image the class that exceeds its threshold by most, and the probability that its label is wrong."""
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
    """[N, K]: of a logistic regression that never saw the image, nor another one with the same original."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    probability_NK = np.zeros((len(given_N), int(given_N.max()) + 1))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    # Scaled once over all images: a mean and a deviation tell nothing of a label.
    scaled_NF = (features_NF - features_NF.mean(0)) / (features_NF.std(0) + 1e-6)
    # Weaker penalties only fit the wrong labels; the number of features sets the scale of the margin.
    strength = 1.0 / scaled_NF.shape[1]
    original_N = np.arange(len(given_N)) if original_N is None else original_N
    originals = np.unique(original_N)
    for _, dealt in splitter.split(originals, given_N[originals]):
        held_out = np.isin(original_N, originals[dealt])
        probe = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
        probe.fit(scaled_NF[~held_out], given_N[~held_out])
        probability_NK[np.ix_(held_out, probe.classes_)] = probe.predict_proba(scaled_NF[held_out])
    return probability_NK


def patch_features(count: int, pixels: Pixels, *, seed: int, progress: Progress) -> Features:
    """[N, 8 F]: how strongly the filters answer, with either sign, in each quarter of the image."""
    squares_NSSC = np.stack([square(pixels(row), SIDE_PX) for row in range(count)])
    filters_FP, mean_P, whiten_PP = _filters(squares_NSSC, np.random.default_rng(seed))
    weights_PF = whiten_PP @ filters_FP.T
    found = np.empty((count, 8 * len(filters_FP)), np.float32)
    for start in range(0, count, _BATCH):
        batch = squares_NSSC[start : start + _BATCH]
        found[start : start + len(batch)] = _pooled(_patches(batch), mean_P, weights_PF)
        progress("features", start + len(batch), count)
    return found


def _filters(squares_NSSC: NDArray[np.uint8], random: np.random.Generator) -> tuple[Any, Any, Any]:
    """Random whitened patches of unit length, and the mean and matrix that whiten a patch."""
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
    """[N, positions, P]: every patch, with its own brightness and contrast taken out."""
    windows = np.lib.stride_tricks.sliding_window_view(squares_NSSC, (_PATCH_PX, _PATCH_PX), axis=(1, 2))
    flat = windows.reshape(len(squares_NSSC), windows.shape[1] * windows.shape[2], -1).astype(np.float32)
    flat -= flat.mean(axis=2, keepdims=True)
    flat /= np.sqrt(flat.var(axis=2, keepdims=True) + 10.0)
    return flat


def _pooled(
    patches_NPP: NDArray[np.float32], mean_P: NDArray[np.float32], weights_PF: NDArray[np.float32]
) -> NDArray[np.float32]:
    answers = (patches_NPP - mean_P) @ weights_PF
    count, _, num_filters = answers.shape
    side = SIDE_PX - _PATCH_PX + 1
    grid = answers.reshape(count, side, side, num_filters)
    middle = side // 2
    halves = (slice(0, middle), slice(middle, side))
    signed = (np.maximum(grid - 0.25, 0), np.maximum(-grid - 0.25, 0))
    quarters = [one[:, rows, columns].mean(axis=(1, 2)) for one in signed for rows in halves for columns in halves]
    return np.concatenate(quarters, axis=1)


def suspects_csv(suspects: Sequence[Suspect]) -> str:
    """A table to correct: write the right label under `corrected`, or leave it empty to keep the one that is given."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CORRECTIONS_COLUMNS)
    writer.writerows((one.path, one.label, one.suggested, f"{one.score:.6f}", "") for one in suspects)
    return stream.getvalue()


def read_corrections(file: Path, labels: dict[str, str], task: type[Task] = SingleLabel) -> list[Correction]:
    """The filled-in rows of a table of suspects; `labels` has the label of each path.

    `corrected` is a class; of a hierarchy the whole path, such as Fruit/Apple/Gala; of sets all labels that the image
    should have, such as cat|dog, in any order.

    Raises SettingsError where there is no such file, DataError for a path or label that isn't known, or a path whose
    label is no longer the one that was looked at.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(f"labels.corrections: {file} isn't there; put the file there or set it to null") from None
    except OSError as problem:
        raise SettingsError(f"labels.corrections: {file} can't be read: {problem.strerror}; name a CSV file") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: is no UTF-8 text; save it as CSV with UTF-8") from None
    try:
        return _corrections_of(csv.DictReader(io.StringIO(text, newline="")), file, labels, task)
    except csv.Error as problem:
        raise DataError(f"{file}: can't be read as a table: {problem}; mend its quotes") from None


def _corrections_of(
    reader: "csv.DictReader[str]", file: Path, labels: dict[str, str], task: type[Task]
) -> list[Correction]:
    missing = [name for name in ("path", "corrected") if name not in (reader.fieldnames or [])]
    if missing:
        raise DataError(f"{file}: lacks the column {missing[0]}; its first line should name path and corrected")
    known = {name for label in set(labels.values()) for name in task.classes_in(label)}
    found: dict[str, Correction] = {}
    for row in reader:
        # Lines may be empty, and a quoted text may hold several.
        place = f"{file}: line {reader.line_num}"
        if None in row:
            raise DataError(f"{place}: holds more values than there are columns; put a text with a comma in quotes")
        path, corrected = row["path"] or "", (row["corrected"] or "").strip()
        if corrected:
            correction = _checked(place, path, _canonical(corrected, task, known, place), row.get("label"), labels)
            if found.setdefault(path, correction) != correction:
                raise DataError(f"{place}: {path} is corrected twice, differently; keep one of the lines")
    return [correction for _, correction in sorted(found.items()) if correction.label != correction.corrected]


def _canonical(corrected: str, task: type[Task], known: set[str], place: str) -> str:
    """As the data writes such a label; raises DataError for one that no image has."""
    names = [name for name in task.classes_in(corrected) if name]
    for name in names:
        if name not in known:
            hint = task.hint(name, known) or nearest(name, known)
            raise DataError(f"{place}: no image has the label {name!r}{hint}; mend the line")
    if not names:
        raise DataError(f"{place}: {corrected!r} holds no label; name at least one, such as {min(known)}")
    return task.text_of(names)


def _checked(place: str, path: str, corrected: str, seen: str | None, labels: dict[str, str]) -> Correction:
    if path not in labels:
        raise DataError(f"{place}: no image has the path {path!r}{nearest(path, labels)}; mend or remove the line")
    if seen and seen not in (labels[path], corrected):
        raise DataError(f"{place}: {path} is labelled {labels[path]!r} by now, not {seen!r}; look at it again")
    return Correction(path, labels[path], corrected)
