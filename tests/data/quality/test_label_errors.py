import numpy as np
import pytest

from components.data.images.patch_features import patch_features
from components.data.quality.label_errors import (
    LabelSearch,
    LabelSettings,
    check_searchable,
    confident_disagreement,
    find_label_errors,
    out_of_fold_probabilities,
)
from components.shared.errors import SettingsError
from components.shared.progress import silent
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel

SETTINGS = LabelSettings()


def drawn(label: str, number: int) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(0, 60, (32, 32, 3), dtype=np.uint8)
    if label == "square":
        pixels[8:24, 8:24] += 150
    elif label == "stripes":
        pixels[::4] += 150
    return pixels


def test_planted_label_errors_come_first() -> None:
    names = ("square", "plain", "stripes")
    truth = [names[number % 3] for number in range(180)]
    pictures = [drawn(label, number) for number, label in enumerate(truth)]
    wrong = {5: "plain", 40: "square", 77: "square", 121: "stripes"}
    labels = [wrong.get(number, label) for number, label in enumerate(truth)]
    assert all(label != truth[number] for number, label in wrong.items())
    features = patch_features(len(pictures), pictures.__getitem__, seed=7, progress=silent)
    found = find_label_errors(features, labels, [str(number) for number in range(180)], settings=SETTINGS).suspects
    assert {int(one.path) for one in found[:4]} == set(wrong)
    assert all(one.suggested == truth[int(one.path)] for one in found[:4])
    again = patch_features(len(pictures), pictures.__getitem__, seed=7, progress=silent)
    assert np.array_equal(features, again)


def test_each_class_has_a_threshold_of_its_own() -> None:
    # Class 1 never gets a high probability: 0.4 is much for it, and 0.6 little for class 0.
    probability = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.65, 0.35], [0.7, 0.3]])
    suggested, _ = confident_disagreement(probability, np.array([0, 0, 0, 1, 1]))
    assert suggested.tolist() == [0, 0, 1, 1, 1]


def clouds(labels: list[str]) -> np.ndarray:
    """Features that separate the classes."""
    codes = np.unique(labels, return_inverse=True)[1]
    noise = np.random.default_rng(0).normal(size=(len(labels), 4))
    return (noise + 9 * np.eye(4)[codes % 4]).astype(np.float32)


def test_a_class_with_fewer_images_than_folds_is_skipped() -> None:
    truth = ["a"] * 40 + ["b"] * 40 + ["rare"] * 2
    labels = ["b", *truth[1:]]
    paths = [str(number) for number in range(82)]
    search = find_label_errors(clouds(truth), labels, paths, settings=SETTINGS)
    assert search.skipped_classes == ["rare"]
    assert [(one.path, one.label, one.suggested) for one in search.suspects] == [("0", "b", "a")]
    few = find_label_errors(clouds(truth)[38:], labels[38:], paths[38:], settings=SETTINGS)
    assert few == LabelSearch([], ["a", "b", "rare"])


def test_copies_with_the_same_wrong_label_do_not_confirm_each_other() -> None:
    """Of a picture unlike all others the label can only be learnt from its copies."""
    truth = ["a"] * 40 + ["b"] * 40
    features = clouds([*truth, *["c"] * 12])
    features[80:] = features[80]
    labels = [*truth, *["a"] * 12]
    paths, sha256 = [str(number) for number in range(92)], [str(min(number, 80)) for number in range(92)]
    codes = np.unique(labels, return_inverse=True)[1]
    originals = np.minimum(np.arange(92), 80)
    alone = out_of_fold_probabilities(features, codes, original_N=originals, folds=5, seed=7)
    vouched = out_of_fold_probabilities(features, codes, folds=5, seed=7)
    assert alone[80:, 0].max() < 0.7 < vouched[80:, 0].min()
    assert np.ptp(alone[80:, 0]) < 1e-6, "all probabilities come from one probe"
    assert find_label_errors(features, labels, paths, sha256=sha256, settings=SETTINGS).skipped_classes == []


def test_features_that_are_not_finite_are_one_clear_sentence() -> None:
    features = np.ones((4, 2), np.float32)
    features[2, 1] = np.nan
    with pytest.raises(SettingsError, match=r"labels\.features: the model gives c a number .*\(1 of 4 images\)"):
        find_label_errors(features, ["cat", "dog"] * 2, list("abcd"), settings=SETTINGS)


def test_the_search_refuses_multi_label_data() -> None:
    with pytest.raises(
        SettingsError, match=r"labels\.find_errors: is true, but .* multi-label.*; set labels\.find_errors to"
    ):
        check_searchable(LabelSettings(find_errors=True), MultiLabel)
    check_searchable(LabelSettings(find_errors=False), MultiLabel)
    for task in (SingleLabel, Hierarchy):
        check_searchable(LabelSettings(find_errors=True), task)
