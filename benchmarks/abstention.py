"""How often prediction sets hold the truth, how many answers are sure, and what detects images of no known class.

    python benchmarks/abstention.py [--images FOLDER] [--model FILE.onnx] [--others FOLDER ...] [--splits 20]

FOLDER has one folder for each class, at any depth. Features come from --model, the first output of that file (as of
`darkroom features`), or else from patches of the images; without --images the 1,797 digits of scikit-learn are used.
A logistic regression learns from half of the images. The other half is split at random into validation and test,
--splits times: the decision rule is fitted on validation as `quantize` does, and scored on test.

Coverage counts as kept where the number of covered test images lies in the middle 95% of what the theory says for
these numbers of validation and test images (beta-binomial, of each group of classes with a threshold of its own). The
last column counts the splits whose Wilson interval holds the asked coverage: it leaves out that the threshold comes
from few images, too. Peer: sets filled until the probabilities, temperature-scaled, sum to the asked coverage, with no
thresholds.

Then AUROC of four scores for images of no known class, and the fraction detected where 95% of validation pass: images
below --others, and those of each of the classes where the regression learned without it.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom
from side_by_side import machine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from threadpoolctl import threadpool_limits

from components.data.images.decoding import IMAGE_ENDINGS, decode
from components.data.images.embeddings import Pixels, embed
from components.data.images.patch_features import patch_features
from components.evaluation.decision_rule import fit_decision_rule
from components.evaluation.prediction_sets import rank_above, set_scores
from components.evaluation.predictions import Predictions, predictions_at
from components.evaluation.settings import PredictSettings
from components.shared.progress import PlainLines
from components.task.single_label import SingleLabel

_COVERAGES = (0.9, 0.95, 0.99)
_KEPT = 0.95
_MOST_OTHERS = 500
_NEAREST = 10
_REGULARIZATION = 0.005

Floats = NDArray[np.floating]
Scores = Mapping[str, Callable[[Floats], Floats]]
"""By name: of features, one number an image; larger is less like what was learned from."""


@dataclass(frozen=True)
class Pictures:
    features: Floats
    labels: NDArray[np.str_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--others", type=Path, nargs="*", default=[])
    parser.add_argument("--splits", type=int, default=20)
    flags = parser.parse_args()
    threadpool_limits(1)
    known, others = _pictures(flags.images, flags.others, flags.model)
    print(f"{len(known.labels)} images, {len(set(known.labels))} classes, {known.features.shape[1]} features\n")
    _report_coverage(known, flags.splits)
    _report_unknown(known, others)
    print(machine("scikit-learn", "numpy"))


def _pictures(folder: Path | None, others: list[Path], model: Path | None) -> tuple[Pictures, dict[str, Floats]]:
    pixels, labels = _digits() if folder is None else _read(_files(folder))
    sets = {path.name: _read(_spread(_files(path)))[0] for path in others}
    everything = [*pixels, *(image for found in sets.values() for image in found)]
    features = _features(everything.__getitem__, len(everything), model)
    ends = np.cumsum([len(pixels), *(len(found) for found in sets.values())])
    known, *rest = np.split(features, ends[:-1])
    return Pictures(known, np.array(labels)), dict(zip(sets, rest, strict=True))


def _digits() -> tuple[list[NDArray[np.uint8]], list[str]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = (data.images * 255 / 16).astype(np.uint8)
    return [np.repeat(image[:, :, None], 3, axis=2) for image in grey], [str(label) for label in data.target]


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS)


def _spread(files: list[Path]) -> list[Path]:
    return files[:: max(1, len(files) // _MOST_OTHERS)][:_MOST_OTHERS]


def _read(files: list[Path]) -> tuple[list[NDArray[np.uint8]], list[str]]:
    pixels = [decode(file.read_bytes(), max_megapixels=100).pixels_HWC for file in files]
    return pixels, [file.parent.name for file in files]


def _features(pixels: Pixels, count: int, model: Path | None) -> Floats:
    if model is None:
        return patch_features(count, pixels, seed=7, progress=PlainLines())
    return embed(count, pixels, model=model, setting="--model", progress=PlainLines())


def _learned(features: Floats, labels: NDArray[np.str_]) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=_REGULARIZATION, max_iter=500)).fit(features, labels)


def _answers(learned: Pipeline, found: Pictures) -> Predictions:
    classes = list(learned.classes_)
    names = [str(number) for number in range(len(found.labels))]
    target = np.array([classes.index(label) for label in found.labels])
    logits_NT = learned.decision_function(found.features).astype(np.float32)
    return Predictions(names, names, target, logits_NT, SingleLabel(classes=[str(name) for name in classes]))


def _halves(found: Pictures) -> tuple[Pictures, Pictures]:
    """To learn from, and the rest."""
    rows = train_test_split(np.arange(len(found.labels)), test_size=0.5, stratify=found.labels, random_state=7)
    first, second = (Pictures(found.features[half], found.labels[half]) for half in rows)
    return first, second


def _report_coverage(known: Pictures, splits: int) -> None:
    first, second = _halves(known)
    answers = _answers(_learned(first.features, first.labels), second)
    print(f"accuracy {answers.correct_N.mean():.3f}; {len(second.labels) // 2} images each on validation and test\n")
    print("| coverage asked | of | measured (lowest to highest) | kept | sure answers | right of those | by Wilson |")
    print("|---|---|---|---|---|---|---|")
    for coverage in _COVERAGES:
        found = [_split(answers, coverage, seed) for seed in range(splits)]
        for name, own in (("prediction sets", False), ("sums of probabilities", True)):
            print(_line(f"{coverage:g} | {name}", [one.peer if own else one.sets for one in found]))
    print()


@dataclass(frozen=True)
class Found:
    covered: float
    kept: bool
    """Whether as many images are covered as the theory says."""
    answered: float
    right: float
    in_wilson: bool


@dataclass(frozen=True)
class Both:
    sets: Found
    peer: Found


def _split(answers: Predictions, coverage: float, seed: int) -> Both:
    order = np.random.default_rng(seed).permutation(len(answers.path_N))
    val, test = (predictions_at(answers, half) for half in np.array_split(order, 2))
    rule = fit_decision_rule(val, PredictSettings(coverage=coverage, ood_keep=None))
    test = replace(test, rule=rule)
    low, high = _law(val, test, coverage)
    of_sets = set_scores(test)
    assert of_sets is not None
    value, (wilson_low, wilson_high) = of_sets.values["coverage"], of_sets.intervals["coverage"]
    covered = value * len(test.path_N)
    sets = Found(
        value,
        low <= round(covered) <= high,
        of_sets.values["answered"],
        of_sets.values["answered_accuracy"],
        wilson_low <= coverage <= wilson_high,
    )
    in_set_NK = _summed(test.probabilities_NK, coverage)
    true_N, alone_N = in_set_NK[np.arange(len(in_set_NK)), test.target], in_set_NK.sum(axis=1) == 1
    right = float(true_N[alone_N].mean()) if alone_N.any() else np.nan
    peer = Found(float(true_N.mean()), low <= true_N.sum() <= high, float(alone_N.mean()), right, in_wilson=False)
    return Both(sets, peer)


def _law(val: Predictions, test: Predictions, coverage: float) -> tuple[int, int]:
    """The middle 95% of the number of covered test images."""
    assert test.rule.set_thresholds is not None
    threshold_K = np.array(test.rule.set_thresholds[0])
    laws = []
    for threshold in np.unique(threshold_K):
        images, tested = (
            int(np.isin(one.target, np.flatnonzero(threshold_K == threshold)).sum()) for one in (val, test)
        )
        rank = rank_above(images, coverage)
        all_covered = np.eye(1, tested + 1, tested)[0]
        missed = images + 1 - rank
        laws.append(betabinom(tested, rank, missed).pmf(np.arange(tested + 1)) if missed > 0 else all_covered)
    total = np.cumsum(reduce(np.convolve, laws))
    return int(np.searchsorted(total, 0.025)), int(np.searchsorted(total, 0.975))


def _summed(probability_NK: Floats, coverage: float) -> NDArray[np.bool_]:
    """The most probable classes until their probabilities sum to the coverage."""
    order_NK = np.argsort(-probability_NK, axis=1)
    before_NK = np.cumsum(np.take_along_axis(probability_NK, order_NK, axis=1), axis=1)
    before_NK = np.concatenate([np.zeros((len(order_NK), 1)), before_NK[:, :-1]], axis=1)
    in_set_NK = np.zeros(order_NK.shape, np.bool_)
    np.put_along_axis(in_set_NK, order_NK, before_NK < coverage, axis=1)
    return in_set_NK


def _line(name: str, found: list[Found]) -> str:
    covered = [one.covered for one in found]
    right = [one.right for one in found if not np.isnan(one.right)]
    return (
        f"| {name} | {mean(covered):.3f} ({min(covered):.3f} to {max(covered):.3f}) | "
        f"{sum(one.kept for one in found)} of {len(found)} | {mean(one.answered for one in found):.3f} | "
        f"{mean(right) if right else np.nan:.3f} | {sum(one.in_wilson for one in found)} |"
    )


def _report_unknown(known: Pictures, others: dict[str, Floats]) -> None:
    print("| unknown images | score | AUROC | detected |")
    print("|---|---|---|---|")
    scores, found = _scores(_halves(known)[0]), _halves(known)[1]
    for name, features in others.items():
        for score, (auroc, detected) in _detected(scores, found.features, features).items():
            print(f"| {name} | {score} | {auroc:.3f} | {detected:.3f} |")
    of_classes = list(_without_each_class(known))
    for score in of_classes[0]:
        auroc, detected = (mean(one[score][side] for one in of_classes) for side in (0, 1))
        print(f"| a class left out (mean of {len(of_classes)}) | {score} | {auroc:.3f} | {detected:.3f} |")
    print()


def _without_each_class(known: Pictures) -> Iterator[dict[str, tuple[float, float]]]:
    first, second = _halves(known)
    for label in np.unique(known.labels):
        learned_from = Pictures(first.features[first.labels != label], first.labels[first.labels != label])
        of_known = second.features[second.labels != label]
        yield _detected(_scores(learned_from), of_known, known.features[known.labels == label])


def _scores(learned_from: Pictures) -> Scores:
    learned = _learned(learned_from.features, learned_from.labels)
    task = SingleLabel(classes=[str(name) for name in learned.classes_])
    scaled = StandardScaler().fit(learned_from.features)
    return {
        "free energy of the logits": lambda features: task.ood_score(learned.decision_function(features)),
        "one minus the probability": lambda features: 1 - learned.predict_proba(features).max(axis=1),
        "Mahalanobis distance to the nearest class": _mahalanobis(scaled, learned_from),
        f"cosine to the {_NEAREST}th nearest training image": _nearest(scaled, learned_from),
    }


def _mahalanobis(scaled: StandardScaler, learned_from: Pictures) -> Callable[[Floats], Floats]:
    """Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples", on the last features."""
    from sklearn.covariance import ledoit_wolf

    features = scaled.transform(learned_from.features)
    mean_KF = np.stack([features[learned_from.labels == one].mean(axis=0) for one in np.unique(learned_from.labels)])
    own_K = np.searchsorted(np.unique(learned_from.labels), learned_from.labels)
    covariance_FF, _ = ledoit_wolf(features - mean_KF[own_K])
    root_FF = np.linalg.cholesky(np.linalg.inv(covariance_FF))

    def distance(other: Floats) -> Floats:
        white_NF, white_KF = scaled.transform(other) @ root_FF, mean_KF @ root_FF
        squared_NK = (white_NF**2).sum(axis=1)[:, None] - 2 * white_NF @ white_KF.T + (white_KF**2).sum(axis=1)
        nearest_N: Floats = squared_NK.min(axis=1)
        return nearest_N

    return distance


def _nearest(scaled: StandardScaler, learned_from: Pictures) -> Callable[[Floats], Floats]:
    """Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors"."""
    known_NF = normalize(scaled.transform(learned_from.features))

    def distance(other: Floats) -> Floats:
        cosine_NE = normalize(scaled.transform(other)) @ known_NF.T
        far_N: Floats = -np.partition(cosine_NE, -_NEAREST, axis=1)[:, -_NEAREST]
        return far_N

    return distance


def _detected(scores: Scores, known: Floats, unknown: Floats) -> dict[str, tuple[float, float]]:
    """AUROC, and the fraction of the unknown images above the score that most of half of the known ones stay below."""
    is_unknown = np.arange(len(known) + len(unknown)) >= len(known)
    found = {}
    for name, score in scores.items():
        of_known, of_unknown = score(known), score(unknown)
        val = np.sort(np.random.default_rng(7).permutation(of_known)[: len(known) // 2])
        limit = val[rank_above(len(val), _KEPT) - 1]
        auroc = float(roc_auc_score(is_unknown, np.concatenate([of_known, of_unknown])))
        found[name] = (auroc, float((of_unknown > limit).mean()))
    return found


if __name__ == "__main__":
    main()
