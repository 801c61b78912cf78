"""tar shards in WebDataset's layout are read where they are, sample by sample."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from components.data.raw.dataset import RawImages
from components.data.raw.ingest import write_raw
from components.data.sources import IngestSettings, find
from components.data.sources.tar_shards import expand_braces
from components.shared.errors import DataError
from components.shared.progress import silent


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (9, 9), level).save(stream, "PNG")
    return stream.getvalue()


def shard(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


TWO = {"0001.png": png(1), "0001.cls": b"ant", "0002.png": png(2), "0002.cls": b"cat\n"}


def test_samples_with_a_label_beside_the_image(tmp_path: Path) -> None:
    source = find(str(shard(tmp_path / "s.tar", TWO)))
    assert [(image.path, image.labels) for image in source.images] == [
        ("s/0001.png", ("ant",)),
        ("s/0002.png", ("cat",)),
    ]
    assert [image.read() for image in source.images] == [png(1), png(2)]


def test_the_bytes_come_through_to_the_raw_data(tmp_path: Path) -> None:
    version = write_raw(find(str(shard(tmp_path / "s.tar", TWO))), tmp_path / "raw", progress=silent)
    with RawImages(tmp_path / "raw") as store:
        found = [store.read(row.shard or "", row.offset, row.size_bytes) for row in version.rows]
    assert found == [png(1), png(2)]


def test_records_carry_what_a_row_of_a_table_may_have(tmp_path: Path) -> None:
    rows = [
        {"super": "Fruit", "fine": "Gala", "group": "g", "timestamp": "2026-01-02", "split": "test", "weight": 2},
        {"super": "Fruit", "fine": "Pear", "caption": "a pear"},
    ]
    files = {}
    for number, row in enumerate(rows):
        files |= {f"deep/{number}.v2.json": json.dumps(row).encode(), f"deep/{number}.jpg": png(number)}
    files = {name.replace(".v2", ""): content for name, content in files.items()}
    source = find(str(shard(tmp_path / "s.tar", files)), IngestSettings(label_columns=["super", "fine"]))
    first = source.images[0]
    assert (first.path, first.labels, first.group, first.given_split, first.weight) == (
        "s/deep/0.jpg",
        ("Fruit", "Gala"),
        "g",
        "test",
        2.0,
    )
    assert first.timestamp == "2026-01-02T00:00:00+00:00"
    assert source.levels == ("super", "fine")


def test_many_labels(tmp_path: Path) -> None:
    files = {
        "1.png": png(1),
        "1.json": b'{"labels": ["b", "a"]}',
        "2.png": png(2),
        "2.json": b'{"labels": ["a"]}',
    }
    source = find(str(shard(tmp_path / "s.tar", files)))
    assert (source.task, [image.labels for image in source.images]) == ("multi_label", [("a", "b"), ("a",)])


def test_a_folder_and_a_pattern_of_shards_whose_names_say_the_part(tmp_path: Path) -> None:
    shard(tmp_path / "set" / "x-train-00.tar", TWO)
    shard(tmp_path / "set" / "x-val-01.tar", TWO)
    from_folder = find(str(tmp_path / "set"))
    assert [(image.path, image.given_split) for image in from_folder.images] == [
        ("x-train-00/0001.png", "train"),
        ("x-train-00/0002.png", "train"),
        ("x-val-01/0001.png", "val"),
        ("x-val-01/0002.png", "val"),
    ]
    pattern = find(str(tmp_path / "set" / "x-{train-00,val-01}.tar"))
    assert [image.path for image in pattern.images] == [image.path for image in from_folder.images]
    with pytest.raises(DataError, match=r"x-val-02\.tar: no such shard"):
        find(str(tmp_path / "set" / "x-val-{01..02}.tar"))


def test_all_shards_give_their_split_or_none_does(tmp_path: Path) -> None:
    shard(tmp_path / "train-00.tar", TWO)
    shard(tmp_path / "more.tar", TWO)
    assert {image.given_split for image in find(str(tmp_path)).images} == {None}


def test_shards_in_folders_called_like_splits_and_files_beside_them(tmp_path: Path) -> None:
    for name in ("train/00.tar", "val/00.tar"):
        shard(tmp_path / name, TWO)
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / ".git").mkdir()
    source = find(str(tmp_path))
    assert [(image.path, image.given_split) for image in source.images] == [
        ("train/00/0001.png", "train"),
        ("train/00/0002.png", "train"),
        ("val/00/0001.png", "val"),
        ("val/00/0002.png", "val"),
    ]
    assert source.images[3].read() == png(2)
    assert (list(source.left_out), source.num_hidden) == (["README.md"], 1)
    (tmp_path / "test").symlink_to(tmp_path / "val")
    with pytest.raises(DataError, match="test is a link to a folder or to nothing, and links are not followed"):
        find(str(tmp_path))


def test_a_shard_that_leads_out_of_the_folder_or_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shard(folder / "a-0.tar", TWO)
    (folder / "a-1.tar").symlink_to(shard(tmp_path / "outside.tar", TWO))
    with pytest.raises(
        DataError, match=r"a-1\.tar: a link that leads out of the data folder; .*; put the shard itself"
    ):
        find(str(folder))
    (folder / "a-1.tar").unlink()
    os.mkfifo(folder / "a-1.tar")
    with pytest.raises(DataError, match=r"a-1\.tar: not a plain file"):
        find(str(folder))
    (folder / "a-1.tar").unlink()
    (folder / "a-1.tar").mkdir()
    with pytest.raises(DataError, match=r"a-1\.tar: can't be read: Is a directory"):
        find(str(folder / "a-{0..1}.tar"))


def test_braces() -> None:
    assert expand_braces("a.tar") == ["a.tar"]
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]


def test_a_sample_without_an_image_goes_to_quarantine(tmp_path: Path) -> None:
    files = TWO | {"0003.cls": b"cat", "0004.cls": b"cat", "0004.pyd": b"array", "README.md": b"hello"}
    files |= {"._0001.png": b"of macOS", "0001.txt": b"a caption", "0004.txt": b"another"}
    source = find(str(shard(tmp_path / "s.tar", files)))
    problems = {image.path: image.problem for image in source.images}
    assert problems["s/0003"] == "the sample has no image"
    assert problems["s/0004.pyd"] == "the sample has no image"
    assert list(source.left_out) == ["s.tar/0001.txt", "s.tar/0004.txt", "s.tar/README.md", "s.tar/._0001.png"]


def test_a_link_in_a_shard_goes_to_quarantine(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", TWO | {"0003.cls": b"cat"})
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("0003.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    assert find(str(path)).images[2].problem == "not a plain file"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"../1.png": png(1), "../1.cls": b"a"}, r"'\.\./1\.png' isn't a path inside"),
        ({"/1.png": png(1), "/1.cls": b"a"}, r"'/1\.png' isn't a path inside"),
        ({"1.png": png(1)}, "no sample has a .cls or .json"),
        (TWO | {"3.png": png(3)}, "s.tar: 3: has no .cls or .json file with its label"),
        (TWO | {"0001.jpg": png(3)}, r"the sample has another image, 0001\.png"),
        (TWO | {"0001.json": b'{"label": "4"}'}, "has label '4', the sample's other file 'ant'; keep one"),
        (TWO | {"3.png": png(3), "3.cls": b" "}, "s.tar: 3: the label in column label is empty"),
        (TWO | {"3.png": png(3), "3.json": b"{"}, "s.tar: 3.json: is no JSON"),
        (TWO | {"3.png": png(3), "3.cls": b"\xff"}, "s.tar: 3.cls: is not UTF-8 text"),
    ],
)
def test_a_mistake_in_a_shard_is_one_sentence(tmp_path: Path, files: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        find(str(shard(tmp_path / "s.tar", files)))


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    packed = shard(tmp_path / "packed.tar", TWO, "w:gz")
    with pytest.raises(DataError, match=r"can't be read as an uncompressed tar .*; pack it again without compression"):
        find(str(packed))


TEN = {
    f"{number}.{ending}": png(number) * 40 if ending == "png" else b"ab"[number % 2 :]
    for number in range(10)
    for ending in ("png", "cls")
}
DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "a header of zeros": lambda whole, at: whole[:at] + bytes(512) + whole[at + 512 :],
    "a damaged header": lambda whole, at: whole[:at] + b"?" + whole[at + 1 :],
    "cut before a header": lambda whole, at: whole[:at],
    "cut in a header": lambda whole, at: whole[: at + 100],
    "cut in a file": lambda whole, at: whole[: at + 1000],
    "zeros to the end": lambda whole, at: whole[:at].ljust(len(whole), b"\0"),
    "another tar behind it": lambda whole, _: whole + whole,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tar_that_ends_early_is_not_taken_for_a_whole_one(tmp_path: Path, damage: str) -> None:
    path = shard(tmp_path / "s.tar", TEN)
    with tarfile.open(path) as tar:
        start = tar.getmember("4.png").offset
    path.write_bytes(DAMAGES[damage](path.read_bytes(), start))
    last = "9.cls" if damage == "another tar behind it" else "3.cls"
    last = "4.png" if damage == "cut in a file" else last
    with pytest.raises(DataError, match=rf"s\.tar: ends early or is damaged after {last}; copy it again, or pack it"):
        find(str(path))
