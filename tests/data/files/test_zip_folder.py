"""A zip archive is a source like the folder that was packed into it."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from components.data.raw.ingest import write_raw
from components.data.sources import Source, find
from components.shared.errors import DataError
from components.shared.progress import silent


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (9, 9), level).save(stream, "PNG")
    return stream.getvalue()


def packed(path: Path, names: list[str], **further: bytes | str) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for level, name in enumerate(names):
            archive.writestr(name, png(level))
        for name, content in further.items():
            archive.writestr(name, content)
    return str(path)


def listed(source: Source) -> dict[str, tuple[tuple[str, ...], str | None]]:
    return {image.path: (image.labels, image.given_split) for image in source.images}


CLASSES = {"cat/1.png": (("cat",), None), "dog/2.png": (("dog",), None)}
SPLITS = {"train/cat/1.png": (("cat",), "train"), "val/dog/2.png": (("dog",), "val")}


@pytest.mark.parametrize("wrapped", ["", "set/", "set/inner/"])
@pytest.mark.parametrize("expected", [CLASSES, SPLITS], ids=["classes", "splits"])
def test_folders_in_an_archive(tmp_path: Path, wrapped: str, expected: dict) -> None:
    further = {f"{wrapped}README.txt": "hello"} if not wrapped.endswith("inner/") else {}
    location = packed(
        tmp_path / "set.zip", [wrapped + name for name in expected], **{f"__MACOSX/{wrapped}._1.png": "x"}, **further
    )
    source = find(location)
    assert listed(source) == expected
    assert (len(source.left_out), source.num_hidden) == (len(further), 1)
    assert [image.read() for image in source.images] == [png(0), png(1)]


@pytest.mark.parametrize("wrapped", ["", "set/"])
def test_a_table_in_an_archive(tmp_path: Path, wrapped: str) -> None:
    table = {f"{wrapped}labels.csv": "path,label\nimages/1.png,x\nimages/2.png,y\nimages/3.png,y\n"}
    source = find(packed(tmp_path / "set.zip", [f"{wrapped}images/1.png", f"{wrapped}images/2.png"], **table))
    assert listed(source) == {f"images/{number}.png": ((label,), None) for number, label in enumerate("xyy", start=1)}
    assert [image.problem for image in source.images] == [None, None, "the file is missing"]


def test_a_member_that_can_not_be_unpacked_goes_to_quarantine(tmp_path: Path) -> None:
    location = packed(tmp_path / "set.zip", ["cat/1.png", "dog/2.png"])
    content = bytearray(Path(location).read_bytes())
    content[content.index(b"IDAT") + 6] ^= 255
    Path(location).write_bytes(content)
    rows = write_raw(find(location), tmp_path / "raw", progress=silent).rows
    assert [row.problem is None for row in rows] == [False, True]
    assert "can't be unpacked: Bad CRC-32" in str(rows[0].problem)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["../cat/1.png", "dog/2.png"], r"'\.\./cat/1\.png' isn't a path inside the archive"),
        (["/cat/1.png", "dog/2.png"], r"'/cat/1\.png' isn't a path inside the archive"),
        (["cat/1.png"], r"only one class \(cat\)"),
    ],
)
def test_an_archive_that_is_no_data_set(tmp_path: Path, names: list[str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        find(packed(tmp_path / "set.zip", names))
    (tmp_path / "set.zip").write_text("no archive")
    with pytest.raises(DataError, match=r"set\.zip: can't be read as an archive: .*; pack it again"):
        find(str(tmp_path / "set.zip"))
