from pathlib import Path

import numpy as np
import pytest

from components.data.quality.label_errors import (
    Correction,
    LabelSearch,
    LabelSettings,
    Suspect,
    check_searchable,
    confident_disagreement,
    find_label_errors,
    out_of_fold_probabilities,
    patch_features,
    read_corrections,
    suspects_csv,
)
from components.shared.errors import DataError, SettingsError
from components.shared.progress import silent
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.task import Task

SETTINGS = LabelSettings()
LABELS = {"a.png": "cat", "b.png": "dog", "c.png": "cat"}


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


def test_each_class_is_judged_by_its_own_threshold() -> None:
    # Class 1 never gets a high probability: 0.4 is much for it, and 0.6 little for class 0.
    probability = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.65, 0.35], [0.7, 0.3]])
    suggested, _ = confident_disagreement(probability, np.array([0, 0, 0, 1, 1]))
    assert suggested.tolist() == [0, 0, 1, 1, 1]


def clouds(labels: list[str]) -> np.ndarray:
    """Features that tell the classes apart."""
    codes = np.unique(labels, return_inverse=True)[1]
    noise = np.random.default_rng(0).normal(size=(len(labels), 4))
    return (noise + 9 * np.eye(4)[codes % 4]).astype(np.float32)


def test_a_class_smaller_than_the_folds_alone_is_left_out() -> None:
    truth = ["a"] * 40 + ["b"] * 40 + ["rare"] * 2
    labels = ["b", *truth[1:]]
    paths = [str(number) for number in range(82)]
    search = find_label_errors(clouds(truth), labels, paths, settings=SETTINGS)
    assert search.unjudged == ["rare"]
    assert [(one.path, one.label, one.suggested) for one in search.suspects] == [("0", "b", "a")]
    few = find_label_errors(clouds(truth)[38:], labels[38:], paths[38:], settings=SETTINGS)
    assert few == LabelSearch([], ["a", "b", "rare"])


def test_copies_with_the_same_wrong_label_do_not_vouch_for_each_other() -> None:
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
    assert np.ptp(alone[80:, 0]) < 1e-6, "one probe judged them all"
    assert find_label_errors(features, labels, paths, sha256=sha256, settings=SETTINGS).unjudged == []


def test_what_is_listed_can_be_corrected_and_read_back(tmp_path: Path) -> None:
    text = suspects_csv([Suspect("a.png", "cat", "dog", 0.9), Suspect("b.png", "dog", "cat", 0.5)])
    file = tmp_path / "fixes.csv"
    file.write_text(text.replace("0.900000,", "0.900000,dog"))
    assert read_corrections(file, LABELS) == [Correction("a.png", "cat", "dog")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,corrected\nx.png,dog\n", r"line 2: no image has the path 'x\.png'"),
        ("path,corrected\na.png,dgo\n", "no image has the label 'dgo'; did you mean dog"),
        ("path,fixed\na.png,dog\n", "lacks the column corrected"),
        ("", "lacks the column path"),
        ("path,corrected\na.png,dog\na.png,cat\n", "line 3: a.png is corrected twice"),
        ("path,label,corrected\nb.png,cat,cat\na.png,horse,dog\n", "labelled 'cat' by now, not 'horse'"),
        ("path,corrected\n\n\na.png,dgo\n", "line 4: no image has the label 'dgo'"),
        ('path,note,corrected\nb.png,"two\nlines",\na.png,,dgo\n', "line 4: no image has the label 'dgo'"),
        ("path,corrected\na.png,dog, wild\n", "line 2: holds more values than there are columns"),
        (f'path,corrected\na.png,"{"x" * 200_000}\n', "can't be read as a table: field larger"),
    ],
)
def test_a_bad_correction_is_one_clear_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "fixes.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_corrections(file, LABELS)


TREE = {"a.png": "Fruit/Apple/Gala", "b.png": "Veg/Leek/Green"}
SETS = {"a.png": "cat", "b.png": "cat|dog"}


@pytest.mark.parametrize(
    ("task", "labels", "corrected", "sentence"),
    [
        (Hierarchy, TREE, "Green", r"'Green'; write the whole path, such as Veg/Leek/Green; mend the line"),
        (Hierarchy, TREE, "Veg/Leek/Gren", r"'Veg/Leek/Gren'; did you mean Veg/Leek/Green"),
        (Hierarchy, TREE, "Veg/Apple/Gala", r"no image has the label 'Veg/Apple/Gala'"),
        (MultiLabel, SETS, "dog|hors", r"no image has the label 'hors'; mend the line"),
        (MultiLabel, SETS, "dog,cat", r"no image has the label 'dog,cat'"),
        (MultiLabel, SETS, "|", r"'\|' holds no label; name at least one, such as cat"),
    ],
)
def test_a_bad_correction_of_a_path_or_a_set_is_one_clear_sentence(
    tmp_path: Path, task: type[Task], labels: dict[str, str], corrected: str, sentence: str
) -> None:
    file = tmp_path / "fixes.csv"
    file.write_text(f'path,corrected\na.png,"{corrected}"\n')
    with pytest.raises(DataError, match=sentence):
        read_corrections(file, labels, task)


def test_a_missing_file_of_corrections_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"labels\.corrections: .*none\.csv isn't there"):
        read_corrections(tmp_path / "none.csv", LABELS)
    with pytest.raises(SettingsError, match=r"labels\.corrections: .* can't be read: Is a directory"):
        read_corrections(tmp_path, LABELS)


def test_features_that_are_no_numbers_are_one_clear_sentence() -> None:
    features = np.ones((4, 2), np.float32)
    features[2, 1] = np.nan
    with pytest.raises(SettingsError, match=r"labels\.features: the model gives c a number .*\(1 of 4 images\)"):
        find_label_errors(features, ["cat", "dog"] * 2, list("abcd"), settings=SETTINGS)


def test_a_search_among_sets_of_labels_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"labels\.find_errors: is true, but .* sets .*; set labels\.find_errors to"
    ):
        check_searchable(LabelSettings(find_errors=True), "multi")
    check_searchable(LabelSettings(find_errors=False), "multi")
    for kind in ("single", "hierarchy"):
        check_searchable(LabelSettings(find_errors=True), kind)
