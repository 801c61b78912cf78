"""Two spellings of one class are refused with the remedy, or merged on request, in folders, tables and hierarchies."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from components.data.sources import IngestSettings, Source, find
from components.shared.errors import DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
MERGE = IngestSettings(merge_alike_classes=True)
ALIKE = {
    "case": (("Cat", "cat"), "case", "cat"),
    "blank at the end": (("cat ", "cat"), "blanks", "cat"),
    "blank within": (("polar  bear", "polar bear"), "blanks", "polar bear"),
    "composed accent": ((COMPOSED, DECOMPOSED), "Unicode form", COMPOSED),
    "wide letters": (("ｃａｔ", "cat"), "Unicode form", "cat"),
    "sharp s": (("Straße", "STRASSE"), "case", "STRASSE"),
}


def folders(root: Path, first: str, second: str) -> str:
    """One image of the first spelling, two of the second, one of a dog."""
    for number, name in enumerate((first, second, second, "dog")):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9)).save(root / name / f"{number}.png")
    return str(root)


def table(root: Path, first: str, second: str) -> str:
    folders(root, "images", "images")
    rows = [("images/0.png", first), ("images/1.png", second), ("images/2.png", second), ("dog/3.png", "dog")]
    (root / "t.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    return str(root / "t.csv")


def classes(source: Source) -> set[str]:
    return {label for image in source.images for label in image.labels}


@pytest.mark.parametrize("make", [folders, table])
@pytest.mark.parametrize("kind", ALIKE)
def test_alike_classes_are_refused_or_merged(tmp_path: Path, kind: str, make) -> None:
    (first, second), difference, merged = ALIKE[kind]
    location = make(tmp_path / "set", first, second)
    if make is table and kind == "blank at the end":
        # The blanks around a cell are no part of it.
        assert classes(find(location)) == {"cat", "dog"}
        return
    with pytest.raises(DataError, match=rf"\(1 image\).*differ only in {difference}; rename one, merge") as refused:
        find(location)
    show = ascii if difference == "Unicode form" else repr
    assert f"{show(second)} (2 images)" in str(refused.value)
    source = find(location, MERGE)
    assert classes(source) == {merged, "dog"}
    assert "merged alike classes" in source.notes[-1]
    assert classes(find(location, IngestSettings(classes=[first, second, "dog"]))) == {first, second, "dog"}


def test_merged_folders_may_hold_files_of_one_name(tmp_path: Path) -> None:
    for name in ("Cat", "cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (9, 9)).save(tmp_path / name / "1.png")
    assert [image.labels for image in find(str(tmp_path), MERGE).images] == [("Cat",), ("Cat",), ("dog",)]


def test_levels_of_a_hierarchy_are_merged_below_the_same_names_only(tmp_path: Path) -> None:
    folders(tmp_path, "images", "images")
    rows = "images/0.png,Fruit,Other\nimages/1.png,fruit,other\nimages/2.png,Toys,other\ndog/3.png,fruit,Gala\n"
    (tmp_path / "t.csv").write_text("path,super,fine\n" + rows)
    levels = ["super", "fine"]
    with pytest.raises(DataError, match=r"'Fruit' \(1 image\) and 'fruit' \(2 images\).* \(1 more such case\)"):
        find(str(tmp_path / "t.csv"), IngestSettings(label_columns=levels))
    source = find(str(tmp_path / "t.csv"), IngestSettings(label_columns=levels, merge_alike_classes=True))
    assert [image.labels for image in source.images] == [
        ("fruit", "Gala"),
        ("fruit", "Other"),
        ("fruit", "Other"),
        ("Toys", "other"),
    ]


def test_sets_are_merged_without_repeating_a_label(tmp_path: Path) -> None:
    folders(tmp_path, "images", "images")
    (tmp_path / "t.csv").write_text("path,labels\nimages/0.png,Cat|cat|dog\nimages/1.png,cat\n")
    assert [image.labels for image in find(str(tmp_path / "t.csv"), MERGE).images] == [("cat", "dog"), ("cat",)]


NUMBERS = {
    "padded": (["08", "09", "10", "11"], None),
    "three digits": ([f"{number:03}" for number in range(1, 201)], None),
    "padded beside a name": (["08", "10", "none of them"], None),
    "plain": (["8", "9", "10"], None),
    "number among names": (["8", "cat"], "the label 8 is a number among names such as cat"),
    "other width": (["007", "7"], "the label 7 is a number among names such as 007"),
    "fractions": (["0.5", "1"], "the labels are numbers such as 0.5"),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_with_leading_zeros_are_names(tmp_path: Path, kind: str) -> None:
    names, sentence = NUMBERS[kind]
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("L", (9, 9)).save(tmp_path / name / "1.png")
    if sentence is None:
        assert classes(find(str(tmp_path))) == set(names)
    else:
        with pytest.raises(DataError, match=sentence):
            find(str(tmp_path))


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "none", "null", "NaT", "<NA>"])
def test_whatever_stands_for_an_empty_cell_is_no_class_unless_it_is_listed(tmp_path: Path, text: str) -> None:
    location = table(tmp_path, text, "cat")
    with pytest.raises(DataError, match="which stands for an empty cell; fill it or remove the row, or list the class"):
        find(location)
    assert text in classes(find(location, IngestSettings(classes=[text, "cat", "dog"])))
