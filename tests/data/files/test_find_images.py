"""Every type of source gives the same images in the same order, one after another."""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.files.find_images import IgnoredFiles, count_images, find_images
from components.data.files.image_file import ImageFile
from components.shared.errors import DarkroomError, DataError

CONTENTS = {"a.jpg": b"A", "b/c.PNG": b"C", "b/d/e.webp": b"E", "b.gif": b"B"}
"""In a file system's order by name: a.jpg, b/…, b.gif, for a folder has no ending."""
IN_ORDER = ["a.jpg", "b/c.PNG", "b/d/e.webp", "b.gif"]
LEFT_OUT = {"note.txt": b"", ".hidden.jpg": b"", ".git/x.jpg": b"", "__MACOSX/._a.txt": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, content in (CONTENTS | LEFT_OUT).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def store() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def read(inputs: Iterator[ImageFile], root: str) -> dict[str, bytes]:
    return {one.name.removeprefix(f"{root}/"): one.read() for one in inputs}


def found(source: object, **options: Any) -> list[str]:
    return [one.name for one in find_images([str(source)], **options)]


def test_a_folder_is_walked_in_order_of_names(folder: Path) -> None:
    answer = read(find_images([str(folder)]), str(folder))
    assert list(answer) == sorted(IN_ORDER, key=lambda name: name.split("/"))
    assert answer == CONTENTS
    assert count_images([str(folder)]) == 4


@pytest.mark.parametrize("packed", ["", "photos.zip", "photos.tar"])
def test_files_without_an_image_extension_are_counted(folder: Path, packed: str) -> None:
    for number in range(4):
        (folder / "b" / f"table{number}.csv").write_bytes(b"")
    source = pack(folder, packed) if packed else folder
    ignored = IgnoredFiles()
    for _ in range(2):
        # Listed again, as by a run that resumes, each file counts once.
        assert sum(1 for _ in find_images([str(source)], ignored=ignored)) == 4
        assert (ignored.count, len(ignored.examples)) == (5, 3)
    assert all(Path(name).name.startswith(("table", "note")) for name in ignored.examples)


def test_other_files_that_match_a_pattern_are_counted(folder: Path) -> None:
    ignored = IgnoredFiles()
    assert [one.name for one in find_images([f"{folder}/[an]*"], ignored=ignored)] == [f"{folder}/a.jpg"]
    assert ignored.examples == [f"{folder}/note.txt"]


def pack(folder: Path, name: str) -> Path:
    target = folder.parent / name
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for file in folder.rglob("*"):
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(target, "w") as archive:
            archive.add(folder, ".")
    return target


def test_files_are_taken_as_named(folder: Path) -> None:
    (folder / "photo.unknown").write_bytes(b"U")
    names = [str(folder / "photo.unknown"), str(folder / "a.jpg")]
    assert [one.name for one in find_images(names)] == names


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("*", ["a.jpg", "b/c.PNG", "b/d/e.webp", "b.gif"]),
        ("b/*", ["b/c.PNG", "b/d/e.webp"]),
        ("**/*.[wP]*", ["b/c.PNG", "b/d/e.webp"]),
        ("**", ["a.jpg", "b/c.PNG", "b/d/e.webp", "b.gif"]),
        ("?/**/e.*", ["b/d/e.webp"]),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_patterns(folder: Path, store: Any, pattern: str, expected: list[str], remote: bool) -> None:
    for name, content in (CONTENTS | LEFT_OUT).items():
        store.pipe_file(f"/bucket/photos/{name}", content)
    root = "memory://bucket/photos" if remote else str(folder)
    answer = read(find_images([f"{root}/{pattern}"]), root)
    assert sorted(answer) == sorted(expected)
    assert all(CONTENTS[name] == content for name, content in answer.items())


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].jpg").write_bytes(b"bracket")
    (tmp_path / "a1.jpg").write_bytes(b"one")
    assert [one.read() for one in find_images([str(tmp_path / "a[1].jpg")])] == [b"bracket"]


def csv_table(paths: list[str]) -> bytes:
    return ("id,path\n" + "".join(f'{number},"{path}"\n' for number, path in enumerate(paths))).encode("utf-8-sig")


def json_lines(paths: list[str]) -> bytes:
    return "".join(json.dumps({"path": path}) + "\n\n" for path in paths).encode()


def parquet(paths: list[str]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"label": ["x"] * len(paths), "path": paths}), stream, row_group_size=2)
    return stream.getvalue()


@pytest.mark.parametrize(("name", "made"), [("t.csv", csv_table), ("t.jsonl", json_lines), ("t.parquet", parquet)])
@pytest.mark.parametrize("remote", [False, True])
def test_tables(folder: Path, store: Any, name: str, made: Callable[[list[str]], bytes], remote: bool) -> None:
    content = made([*IN_ORDER, "gone.jpg"])
    if remote:
        root = "memory://bucket/set"
        for path, pixels in {**CONTENTS, name: content}.items():
            store.pipe_file(f"/bucket/set/{path}", pixels)
    else:
        root = str(folder)
        (folder / name).write_bytes(content)
    *good, gone = find_images([f"{root}/{name}"])
    assert read(iter(good), root) == {path: CONTENTS[path] for path in IN_ORDER}
    with pytest.raises(FileNotFoundError):
        gone.read()


def test_a_table_may_name_whole_paths_and_addresses(folder: Path, store: Any, tmp_path: Path) -> None:
    store.pipe_file("/bucket/far.jpg", b"far")
    (tmp_path / "t.csv").write_text(f"path\n{folder}/a.jpg\nmemory://bucket/far.jpg\nmemory://bucket/gone.jpg\n")
    near, far, gone = find_images([str(tmp_path / "t.csv")])
    assert (near.read(), far.read()) == (b"A", b"far")
    with pytest.raises(FileNotFoundError):
        gone.read()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"pth,label\na.jpg,x\n", "has no column path; did you mean pth"),
        ("t.csv", b"path\n\xff\xfe\n", "is not UTF-8 text"),
        ("t.csv", b"path\n", "no images in .*t.csv"),
        ("t.parquet", b"no parquet", "can't be read as a table: .*; write it again"),
        ("t.zip", b"no zip", "can't be read as an archive: .*; pack it again"),
    ],
)
def test_a_broken_list_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as refused:
        list(find_images([str(tmp_path / name)]))
    assert "\n" not in str(refused.value)


BAD_ROWS = [
    ("t.csv", b"path\n%s\na\0b.jpg\n%s\n", r"a\x00b.jpg", "no file can have this name; correct it in the list"),
    ("t.csv", b"id,path\n0,%s\n1,\n2,%s\n", "t.csv: row 2", "the row has no path; fill it in or remove the row"),
    ("t.csv", b"path\n%s\nfoo://b/x.jpg\n%s\n", "foo://b/x.jpg", "no known type of store; give a path, or an address"),
    ("t.jsonl", b'{"path": "%s"}\n{"path"\n{"path": "%s"}\n', "t.jsonl: row 2", "line 2 is no JSON object; write one"),
    ("t.jsonl", b'{"path": "%s"}\n[1]\n{"path": "%s"}\n', "t.jsonl: row 2", "line 2 is no JSON object"),
    ("t.jsonl", b'{"path": "%s"}\n{"pth": 1}\n{"path": "%s"}\n', "t.jsonl: row 2", "line 2: has no column path; did"),
    ("t.jsonl", b'{"path": "%s"}\n{"path": "\\ud800.jpg"}\n{"path": "%s"}\n', r"\ud800.jpg", "no file can have this"),
    ("t.jsonl", b'{"path": "%s"}\n' + b"[" * 99_999 + b'\n{"path": "%s"}\n', "t.jsonl: row 2", "line 2 is no JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "content", "name", "sentence"), BAD_ROWS)
def test_a_bad_row_is_reported_between_good_ones(
    folder: Path, table: str, content: bytes, name: str, sentence: str
) -> None:
    (folder / table).write_bytes(content % (b"a.jpg", b"b.gif"))
    first, bad, last = find_images([str(folder / table)])
    assert (first.read(), last.read()) == (b"A", b"B")
    assert bad.name in (name, f"{folder}/{name}")
    with pytest.raises(DataError, match=sentence):
        bad.read()


def test_a_table_that_names_itself_is_read_once(folder: Path) -> None:
    table = folder / "t.csv"
    table.write_text(f"path\n{table}\n{folder}/*.csv\n{folder}\n")
    assert [one.name for one in find_images([str(table)])] == [str(table), f"{folder}/*.csv", str(folder)]


@pytest.mark.parametrize("line", ["a\0b.jpg", "foo://b/x.jpg", "no\0thing"])
def test_a_bad_line_is_reported_between_good_ones(folder: Path, line: str) -> None:
    first, bad, last = find_images(["-"], lines=[f"{folder}/a.jpg\n", f"{line}\n", f"{folder}/b.gif\n"])
    assert (first.read(), bad.name, last.read()) == (b"A", line.replace("\0", r"\x00"), b"B")
    with pytest.raises(DataError):
        bad.read()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("m.zip", b"no zip", "can't be read as an archive"),
        # A name in its list of members that is no UTF-8.
        ("m.zip", None, "can't be read as an archive: .*codec.*; pack it again"),
        ("m.csv", b"pth\na.jpg\n", "has no column path; did you mean pth"),
    ],
)
@pytest.mark.parametrize("by_pattern", [True, False])
def test_a_broken_source_among_others_is_reported_in_a_row(
    tmp_path: Path, name: str, content: bytes | None, sentence: str, by_pattern: bool
) -> None:
    for good in ("a.zip", "z.zip"):
        write_archive(tmp_path / good, {"é.jpg": good.encode()})
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / name).write_bytes(whole.replace("é".encode(), b"\xff\xfe") if content is None else content)
    files = sorted(str(file) for file in tmp_path.iterdir())
    first, bad, last = find_images([f"{tmp_path}/*"] if by_pattern else files)
    assert (first.read(), last.read()) == (b"a.zip", b"z.zip")
    assert bad.name == str(tmp_path / name)
    with pytest.raises(DataError, match=sentence):
        bad.read()


def test_a_folder_that_may_not_be_listed_is_reported_in_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, scandir = f"{folder}/b", os.scandir

    def guarded(path: str) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    first, bad, last = find_images([str(folder)])
    assert (first.read(), bad.name, last.read()) == (b"A", closed, b"B")
    with pytest.raises(DataError, match="can't be listed: Permission denied; make it readable"):
        bad.read()


def write_archive(target: Path, contents: dict[str, bytes]) -> None:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return
    kind = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[target.suffix]
    with tarfile.open(target, kind) as tar:  # type: ignore[call-overload]
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("remote", [False, True])
def test_archives(tmp_path: Path, store: Any, ending: str, remote: bool) -> None:
    archive = tmp_path / f"set.{ending}"
    write_archive(archive, CONTENTS | LEFT_OUT)
    name = str(archive)
    if remote:
        name = f"memory://bucket/set.{ending}"
        store.pipe_file(f"/bucket/set.{ending}", archive.read_bytes())
    assert read(find_images([name]), name) == CONTENTS


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_cut_archive_is_reported_after_its_readable_images(tmp_path: Path, ending: str) -> None:
    whole = tmp_path / f"whole.{ending}"
    write_archive(whole, {"a.jpg": b"A" * 100, "b.jpg": bytes(range(256)) * 4000, "c.jpg": b"C" * 100})
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole.read_bytes()[: 3000 if ending == "tar" else whole.stat().st_size // 2])
    first, *_, last = find_images([str(cut)])
    assert first.read() == b"A" * 100
    with pytest.raises(DataError, match="can't be"):
        last.read()


def test_an_encrypted_member_is_a_row_of_its_own(tmp_path: Path) -> None:
    write_archive(tmp_path / "locked.zip", {"a.jpg": b"A", "b.jpg": b"B"})
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    offset = content.index(b"PK\x01\x02")
    content[offset + 8] |= 1
    content[6] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    locked, free = find_images([str(tmp_path / "locked.zip")])
    assert free.read() == b"B"
    with pytest.raises(DataError, match=r"can't be unpacked: .*encrypted"):
        locked.read()


def test_standard_input_names_sources_line_by_line(folder: Path) -> None:
    lines = [f"{folder}/a.jpg\n", "\n", f"{folder}/b\r\n", "nowhere\n"]
    *good, gone = find_images(["-"], lines=lines)
    assert read(iter(good), str(folder)) == {name: CONTENTS[name] for name in ("a.jpg", "b/c.PNG", "b/d/e.webp")}
    assert gone.name == "nowhere"
    with pytest.raises(DataError, match="no such file or folder"):
        gone.read()


def test_an_endless_list_is_read_as_far_as_needed(folder: Path) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield f"{folder}/a.jpg\n"

    assert len(list(islice(find_images(["-"], lines=endless()), 2_000))) == 2_000


def test_a_store_is_read_folder_by_folder(store: Any) -> None:
    for name, content in (CONTENTS | LEFT_OUT).items():
        store.pipe_file(f"/bucket/photos/{name}", content)
    root = "memory://bucket/photos"
    assert read(find_images([root]), root) == CONTENTS
    assert read(find_images([f"{root}/a.jpg"]), root) == {"a.jpg": b"A"}
    with pytest.raises(DataError, match="no such file or folder"):
        found("memory://bucket/nowhere")


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([], "no images were named"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["-"], "no images in standard input"),
        (["s4://bucket/set"], "s4:// is no known type of store"),
        (["no*thing"], r"no images in no\*thing"),
    ],
)
def test_sources_without_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DarkroomError, match=sentence):
        list(find_images(sources))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in .*expected \.jpg"):
        found(tmp_path)


def test_a_link_in_circles_is_walked_once(folder: Path) -> None:
    (folder / "b" / "again").symlink_to(folder)
    assert len(found(folder)) == 4


def test_only_sources_that_are_quick_to_list_are_counted(folder: Path) -> None:
    assert count_images([f"{folder}/*.jpg", str(folder)]) == 5
    (folder / "t.csv").write_text("path\na.jpg\n")
    assert count_images([str(folder / "t.csv")]) is None
    assert count_images(["-"]) is None
