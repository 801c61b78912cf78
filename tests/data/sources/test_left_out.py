"""Files that are no labelled image are counted by kind, left aside, and named where the run stops because of them."""

import os
from pathlib import Path

import pytest
from PIL import Image

from components.data.sources import find
from components.data.sources.left_out import left_out_sentences
from components.shared.errors import DataError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (9, 9)).save(path)


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    for name in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png"):
        picture(tmp_path / "set" / name)
    return tmp_path / "set"


def test_clutter_is_counted_by_kind_and_brings_no_image_into_quarantine(splits: Path) -> None:
    for number in range(3):
        picture(splits / "test" / f"{number}.png")
    for name in ("train/cat/Thumbs.db", "train/dog/Thumbs.db", "desktop.ini", "train/cat/notes.txt", "train/cat/bare"):
        (splits / name).write_text("clutter")
    picture(splits / "loose.png")
    os.mkfifo(splits / "train" / "pipe")
    source = find(str(splits))
    assert len(source.images) == 4
    assert not any(image.problem for image in source.images)
    assert sorted(left_out_sentences(source.left_out).values()) == [
        "1 file left out, not a plain file: 1 in train (such as train/pipe)",
        "4 files left out, in no class folder: 3 in test, 1 at the top (such as loose.png)",
        "5 files left out, no image by the name: 2 Thumbs.db, 1 desktop.ini, 1 without an ending, and 1 more kinds "
        "(such as desktop.ini)",
    ]


NOTED = {
    "deeper folders": (("animals/cat/1.png", "animals/dog/2.png", "plants/3.png"), "the class: animals (cat, dog); wh"),
    "splits below classes": (("cat/train/1.png", "cat/test/2.png", "dog/3.png"), "the class: cat (test, train); where"),
    "a split beside classes": (
        ("cat/1.png", "dog/2.png", "test/3.png"),
        "the folder test counts as a class, for other",
    ),
    "a single folder below": (("cat/images/1.png", "dog/images/2.png"), None),
}


@pytest.mark.parametrize("kind", NOTED)
def test_folders_that_may_mean_something_else_get_a_warning(tmp_path: Path, kind: str) -> None:
    names, note = NOTED[kind]
    for name in names:
        picture(tmp_path / name)
    notes = find(str(tmp_path)).notes
    assert [note in one for one in notes] == ([True] if note else [])


REFUSED = {
    "a table beside the images": (
        ("images/1.png", "images/2.png"),
        ("manifest.csv",),
        r"only one class \(images\); .* at least two classes; if manifest\.csv lists the labels, give --data ",
    ),
    "classes one folder deeper": (
        ("data/cat/1.png", "data/dog/2.png"),
        (),
        r"only one class \(data\).*; if cat, dog are the classes or splits, give --data .*/data$",
    ),
    "splits one folder deeper": (
        ("data/train/cat/1.png", "data/val/dog/2.png"),
        (),
        r"only one class \(data\).*; if train, val are the classes or splits, give --data .*/data$",
    ),
    "no class folders": (
        ("1.png", "2.png"),
        ("labels.csv",),
        r"no labelled images in it \(2 files left out, in no class folder: 2 at the top .*; if labels\.csv lists the",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_without_usable_classes_says_where_they_may_be(tmp_path: Path, kind: str) -> None:
    images, others, sentence = REFUSED[kind]
    for name in images:
        picture(tmp_path / name)
    for name in others:
        (tmp_path / name).write_text("path,label\n")
    with pytest.raises(DataError, match=sentence):
        find(str(tmp_path))
