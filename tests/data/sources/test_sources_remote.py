"""Object stores through fsspec; memory:// stands in for s3://, gs:// and az://, with the same calls."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from components.data.files.folders import FileListing
from components.data.files.object_stores import StoreFolder
from components.data.raw.ingest import write_raw
from components.data.sources import find
from components.shared.errors import DataError, ServiceError
from components.shared.progress import silent


@pytest.fixture
def store() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def test_a_folder_a_class(store: Any) -> None:
    for name in ("cat/1.png", "cat/deep/2.png", "dog/3.jpg", "dog/note.txt", "LICENSE", ".git/4.png"):
        store.pipe_file(f"/bucket/set/{name}", name.encode())
    source = find("memory://bucket/set")
    assert {image.path: image.problem for image in source.images} == {
        "cat/1.png": None,
        "cat/deep/2.png": None,
        "dog/3.jpg": None,
    }
    assert source.left_out == dict.fromkeys(("LICENSE", "dog/note.txt"), "no image by the name")
    assert source.images[1].read() == b"cat/deep/2.png"


def test_objects_that_stand_for_folders_are_no_files_and_hidden_ones_are_counted(store: Any) -> None:
    class Marked(type(store)):  # type: ignore[misc]
        cachable = False

        def find(self, *_: Any, **__: Any) -> list[str]:
            return ["bucket/set/", "bucket/set/cat/", "bucket/set/cat/1.png", "bucket/set/.git/a", "bucket/set/.git/b"]

    assert StoreFolder(Marked(), "bucket/set", "s3://bucket/set").list_files() == FileListing(["cat/1.png"], 1)


def test_a_table_and_a_file_that_it_names_in_vain(store: Any, tmp_path: Path) -> None:
    store.pipe_file("/bucket/a.png", b"first")
    store.pipe_file("/bucket/b.png", b"second")
    store.pipe_file("/bucket/table.csv", b"path,label\na.png,x\nb.png,y\ngone.png,x\n")
    version = write_raw(find("memory://bucket/table.csv"), tmp_path / "raw", progress=silent)
    assert [(row.path, row.size_bytes, row.problem) for row in version.rows] == [
        ("a.png", 5, None),
        ("b.png", 6, None),
        ("gone.png", 0, "the file is missing"),
    ]


def test_tar_shards(store: Any) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in {"1.png": b"one", "1.cls": b"x", "2.png": b"two!", "2.cls": b"y"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    store.pipe_file("/bucket/shards/s-0.tar", stream.getvalue())
    for location in ("memory://bucket/shards", "memory://bucket/shards/s-{0..0}.tar"):
        source = find(location)
        assert [(image.path, image.labels, image.read()) for image in source.images] == [
            ("s-0/1.png", ("x",), b"one"),
            ("s-0/2.png", ("y",), b"two!"),
        ]


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("memory://nowhere/set", "the store has no bucket nowhere; check the address"),
        ("memory://nowhere/table.csv", "table.csv: can't be read: no such file"),
        ("s4://bucket/set", "s4:// is no known type of store"),
        ("memory://bucket/labels.tsv", r"is neither a folder nor a table \(\.csv, .* save a table as CSV"),
        ("memory://bucket/empty", "no labelled images in it"),
    ],
)
def test_a_location_without_data(store: Any, location: str, sentence: str) -> None:
    store.pipe_file("/bucket/labels.tsv", b"path\tlabel\n")
    with pytest.raises(DataError, match=sentence):
        find(location)


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gs"), ("az", "az"), ("abfs", "az")])
def test_a_missing_driver_names_what_to_install(monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str) -> None:
    def missing(_: str) -> None:
        raise ImportError("no driver")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(DataError, match=rf"driver for {scheme}:// is not installed; pip install 'darkroom\[{extra}\]'"):
        find(f"{scheme}://bucket/set")


def test_a_store_that_fails_stops_the_ingest_and_quarantines_nothing(store: Any, tmp_path: Path) -> None:
    class Failing(type(store)):  # type: ignore[misc]
        cachable = False

        def cat_file(self, *_: Any, **__: Any) -> bytes:
            raise TimeoutError("no answer after 5 s\n<Error>408</Error>")

    folder = StoreFolder(Failing(), "/bucket", "s3://bucket")
    with pytest.raises(ServiceError, match=r"s3://bucket: no answer after 5 s; check the address.*\(AWS_ACCESS_KEY_ID"):
        folder.read("a.png")
