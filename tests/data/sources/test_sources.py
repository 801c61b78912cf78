"""What is listed of a folder, a table or the embedded digits, before anything is read."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.data.files.folders import LEADS_OUT
from components.data.sources import EMBEDDED_DIGITS, IngestSettings, Source, find
from components.shared.errors import DataError


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dog/1.png", "dog/deep/2.PNG", "cat/1.jpg"):
        picture(tmp_path / "pets" / name)
    return tmp_path / "pets"


def listed(source: Source) -> dict[str, str]:
    return {image.path: image.labels[0] for image in source.images}


def test_a_folder_gives_a_class_a_folder(folder: Path) -> None:
    (folder / "LICENSE").write_text("free")
    (folder / "dog" / ".DS_Store").write_bytes(b"\0")
    source = find(str(folder))
    assert listed(source) == {"cat/1.jpg": "cat", "dog/1.png": "dog", "dog/deep/2.PNG": "dog"}
    assert [image.path for image in source.images] == sorted(listed(source))
    assert source.left_out == {"LICENSE": "no image by the name"}
    assert source.images[0].read() == (folder / "cat" / "1.jpg").read_bytes()
    assert {image.given_split for image in source.images} == {None}


def test_folders_called_train_and_test_are_splits(tmp_path: Path) -> None:
    for name in ("train/dog/1.png", "train/cat/1.png", "valid/dog/2.png", "test/cat/3.png"):
        picture(tmp_path / name)
    source = find(str(tmp_path))
    assert listed(source) == {
        "test/cat/3.png": "cat",
        "train/cat/1.png": "cat",
        "train/dog/1.png": "dog",
        "valid/dog/2.png": "dog",
    }
    assert [image.given_split for image in source.images] == ["test", "train", "train", "val"]


@pytest.mark.parametrize("other", ["annotations/boxes.xml", "__MACOSX/cat/._1.png", "README.md"])
def test_a_folder_without_images_beside_the_splits_changes_nothing(tmp_path: Path, other: str) -> None:
    for name in ("train/dog/1.png", "train/cat/1.png", "test/cat/3.png"):
        picture(tmp_path / name)
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_text("not a picture")
    source = find(str(tmp_path))
    assert listed(source) == {"test/cat/3.png": "cat", "train/cat/1.png": "cat", "train/dog/1.png": "dog"}
    assert [image.given_split for image in source.images] == ["test", "train", "train"]
    assert len(source.left_out) + source.num_hidden == 1


def test_splits_beside_other_folders_with_images_are_refused(tmp_path: Path) -> None:
    for name in ("train/dog/1.png", "test/cat/3.png", "extra/cat/3.png"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match=r"has the splits test and train beside other folders with images \(extra\); m"):
        find(str(tmp_path))
    assert {image.given_split for image in find(str(tmp_path), extra_splits=["extra"]).images} == {
        *("train", "test", "extra")
    }


def test_an_image_outside_the_class_folders_is_left_out(folder: Path) -> None:
    picture(folder / "loose.png")
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / "dog" / ".DS_Store").write_bytes(b"\0")
    source = find(str(folder))
    assert source.left_out == {"loose.png": "in no class folder"}
    assert (len(source.images), source.num_hidden) == (3, 2)


def test_a_file_name_that_is_no_utf8_is_one_sentence(folder: Path) -> None:
    picture(folder / "dog" / "x.png").rename(folder / "dog" / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(DataError, match=r"dog/caf.*\.png: the name or the label isn't UTF-8 text; rename it"):
        find(str(folder))


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret.png")
    (folder / "dog" / "link.png").symlink_to(secret)
    (folder / "dog" / "all").symlink_to(tmp_path)
    problems = {image.path: image.problem for image in find(str(folder)).images if image.problem}
    assert set(problems) == {"dog/link.png", "dog/all"}
    assert "leads out of the data folder; ingest.follow_links: true follows" in str(problems["dog/link.png"])
    (folder / "dog" / "circle").symlink_to(folder)
    followed = find(str(folder), IngestSettings(follow_links=True))
    paths = {image.path for image in followed.images}
    assert {"dog/link.png", "dog/all/secret.png"} < paths
    assert not any("circle" in path for path in paths)


def test_a_link_in_place_of_a_class_or_a_split_is_refused(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "rare" / "1.png")
    for link, target in (
        ("class", tmp_path / "elsewhere" / "rare"),
        ("class within", folder / "dog"),
        ("class nowhere", tmp_path / "unmounted"),
    ):
        (folder / link).symlink_to(target)
        with pytest.raises(DataError, match=f"pets: {link} is a link to a folder or to nothing, .* put the folder its"):
            find(str(folder))
        (folder / link).unlink()
    splits = tmp_path / "splits"
    for name in ("train/dog/1.png", "train/cat/1.png", "val/dog/1.png"):
        picture(splits / name)
    for link in ("test", "train/rare"):
        (splits / link).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataError, match=f"splits: {link} is a link to a folder"):
            find(str(splits))
        (splits / link).unlink()


def test_a_link_out_to_a_file_beside_the_classes_is_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "photo").symlink_to(picture(tmp_path / "secret.png"))
    (folder / "loose.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pipe")
    source = find(str(folder))
    assert source.left_out == {"photo": LEADS_OUT, "loose.png": LEADS_OUT, "pipe": "not a plain file"}
    assert not any(image.problem for image in source.images)


CSV = "path,label,group,split\ncat/1.jpg,007,anna,train\ndog/1.png,dog,,test\ndog/deep/2.PNG,dog,anna,\n"


def test_a_table_gives_labels_groups_and_splits(folder: Path) -> None:
    (folder / "pets.csv").write_text(CSV)
    source = find(str(folder / "pets.csv"))
    assert listed(source) == {"cat/1.jpg": "007", "dog/1.png": "dog", "dog/deep/2.PNG": "dog"}
    assert [image.group for image in source.images] == ["anna", None, "anna"]
    assert [image.given_split for image in source.images] == ["train", "test", None]


def test_a_parquet_table_gives_the_same_as_csv(folder: Path) -> None:
    rows = [line.split(",") for line in CSV.splitlines()[1:]]
    columns = zip(*[[value or None for value in row] for row in rows], strict=True)
    table = pa.table(dict(zip(("path", "label", "group", "split"), columns, strict=True)))
    pq.write_table(table, folder / "pets.parquet")
    (folder / "pets.csv").write_text(CSV)
    sources = [find(str(folder / name)) for name in ("pets.csv", "pets.parquet")]
    seen = [[(one.path, one.labels[0], one.group, one.given_split) for one in source.images] for source in sources]
    assert seen[0] == seen[1]


def test_a_file_that_the_table_names_and_that_is_missing_is_listed_with_its_problem(folder: Path) -> None:
    (folder / "pets.csv").write_text(CSV + "dog/9.png,dog,,\n")
    assert [image.path for image in find(str(folder / "pets.csv")).images if image.problem] == ["dog/9.png"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("path,labl\ncat/1.jpg,cat\n", "column label"),
        ("path,label\n../secret.png,cat\ndog/1.png,dog\n", "row 1"),
        ("path,label\n/etc/passwd,cat\ndog/1.png,dog\n", "row 1"),
        ("path,label\ncat/1.jpg,cat\ndog/1.png,\n", "row 2"),
        ("path,label\ncat/1.jpg,cat\ncat/1.jpg,dog\n", "row 2"),
        ("path,label,split\ncat/1.jpg,cat,tarin\ndog/1.png,dog,test\n", "split 'tarin'"),
        ("", "pets.csv"),
    ],
    ids=["no label column", "path above", "absolute path", "empty label", "path twice", "unknown split", "empty"],
)
def test_a_mistake_in_a_table_is_named_with_its_row(folder: Path, content: str, sentence: str) -> None:
    (folder / "pets.csv").write_text(content)
    with pytest.raises(DataError) as refused:
        find(str(folder / "pets.csv"))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_source_that_makes_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        find(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no labelled images"):
        find(str(tmp_path / "empty"))
    picture(tmp_path / "single" / "cat" / "1.png")
    with pytest.raises(DataError, match=r"only one class \(cat\)"):
        find(str(tmp_path / "single"))
    (tmp_path / "notes.txt").write_text("no table")
    with pytest.raises(DataError, match="neither a folder nor a table"):
        find(str(tmp_path / "notes.txt"))


def test_the_embedded_digits_are_real_scans_of_ten_classes() -> None:
    source = find(EMBEDDED_DIGITS)
    assert len(source.images) == 1797
    assert {image.labels[0] for image in source.images} == set("0123456789")
    assert source.images[5].read() == source.images[5].read()
    assert source.images[5].read().startswith(b"\x89PNG")
