"""Corrected labels as people fill them in: what is read, and what is refused with which sentence."""

from pathlib import Path

import pytest

from components.data.quality.label_corrections import Correction, read_corrections
from components.data.quality.label_errors import Suspect, suspects_csv
from components.shared.errors import DataError, SettingsError
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.task import Task

LABELS = {"a.png": "cat", "b.png": "dog", "c.png": "cat"}


def test_listed_suspects_can_be_corrected_and_read_back(tmp_path: Path) -> None:
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
        (Hierarchy, TREE, "Green", r"'Green'; write the whole path, such as Veg/Leek/Green; fix the line"),
        (Hierarchy, TREE, "Veg/Leek/Gren", r"'Veg/Leek/Gren'; did you mean Veg/Leek/Green"),
        (Hierarchy, TREE, "Veg/Apple/Gala", r"no image has the label 'Veg/Apple/Gala'"),
        (MultiLabel, SETS, "dog|hors", r"no image has the label 'hors'; fix the line"),
        (MultiLabel, SETS, "dog,cat", r"no image has the label 'dog,cat'"),
        (MultiLabel, SETS, "|", r"'\|' holds no label; name at least one, such as cat"),
    ],
)
def test_a_bad_correction_in_a_hierarchy_or_multi_label_data_is_one_clear_sentence(
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
