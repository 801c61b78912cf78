"""A version of the raw data holds the bytes as they came, and grows by what is new alone."""

import errno
import hashlib
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.data.raw import ingest as raw_ingest
from components.data.raw.dataset import MANIFEST, RawImages, read_manifest, read_raw_dataset
from components.data.raw.ingest import RawVersion, write_raw
from components.data.sources.source import Source, SourceImage
from components.data.split.splitter import SplitSettings, split_images
from components.data.split.strata import SplitImages
from components.shared.errors import DarkroomError, DataError
from components.shared.files import sha256_of_file
from components.shared.progress import silent


def content(number: int, size: int = 700) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (size // 32) + bytes([number % 256])


def source(numbers: list[int], size: int = 700) -> Source:
    return Source(
        [
            SourceImage(f"{'ab'[number % 2]}/{number:04d}.png", ("ab"[number % 2],), lambda n=number: content(n, size))
            for number in numbers
        ]
    )


def ingest(given: Source, folder: Path, before: Path | None = None) -> RawVersion:
    return write_raw(given, folder, previous=before, progress=silent)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of_file(path) for path in sorted(folder.iterdir())}


def assert_readable(folder: Path) -> None:
    with RawImages(folder) as store:
        for row in read_manifest(folder):
            if row.problem is None:
                assert row.shard is not None
                found = store.read(row.shard, row.offset, row.size_bytes)
                assert hashlib.sha256(found).hexdigest() == row.sha256


def test_ingested_bytes_can_be_read_back_and_the_shard_is_an_ordinary_tar(tmp_path: Path) -> None:
    given = source([3, 1, 2])
    ingest(given, tmp_path / "raw")
    rows = read_manifest(tmp_path / "raw")
    assert [row.path for row in rows] == ["a/0002.png", "b/0001.png", "b/0003.png"]
    assert_readable(tmp_path / "raw")
    with tarfile.open(tmp_path / "raw" / "images-00000.tar") as tar:
        assert {member.name for member in tar} == {f"{row.sha256}.png" for row in rows}
        first = tar.getmembers()[0]
        assert tar.extractfile(first).read() == content(3)  # type: ignore[union-attr]
    dataset = read_raw_dataset(tmp_path / "raw")
    assert (dataset.task, dataset.levels) == ("single_label", [])


def test_a_row_has_all_values_of_the_source(tmp_path: Path) -> None:
    image = SourceImage(
        "x.png", ("Fruit", "Gala"), lambda: b"bytes", "tree 1", "2026-01-02T00:00:00+00:00", 0.5, "test"
    )
    other = SourceImage("y.png", ("Fruit", "Pear"), lambda: b"", problem="a link that leads nowhere")
    ingest(Source([image, other], "hierarchy", ("super", "fine")), tmp_path / "raw")
    first, second = read_manifest(tmp_path / "raw")
    assert (first.label, first.labels) == ("Fruit/Gala", ["Fruit", "Gala"])
    assert (first.group, first.timestamp, first.weight, first.given_split) == (
        "tree 1",
        "2026-01-02T00:00:00+00:00",
        0.5,
        "test",
    )
    assert (second.problem, second.sha256, second.shard) == ("a link that leads nowhere", None, None)
    assert read_raw_dataset(tmp_path / "raw").levels == ["super", "fine"]
    assert "further" not in pq.read_schema(tmp_path / "raw" / MANIFEST).names


def test_further_columns_of_a_source_are_kept_in_the_manifest(tmp_path: Path) -> None:
    image = SourceImage("x.png", ("a",), lambda: b"bytes", further='{"camera": "phone"}')
    ingest(Source([image, SourceImage("y.png", ("a",), lambda: b"others")]), tmp_path / "raw")
    assert [row.further for row in read_manifest(tmp_path / "raw")] == ['{"camera": "phone"}', None]


def test_the_same_source_again_gives_the_same_bytes(tmp_path: Path) -> None:
    broken = SourceImage("a/broken.png", ("a",), lambda: b"", problem="the file is missing")
    given = Source([*source([1, 2, 3]).images, broken])
    ingest(given, tmp_path / "1")
    again = ingest(given, tmp_path / "2", tmp_path / "1")
    elsewhere = ingest(given, tmp_path / "3")
    assert digests(tmp_path / "1") == digests(tmp_path / "2") == digests(tmp_path / "3")
    assert (again.num_new, elsewhere.num_new) == (0, 4)


def test_growth_keeps_old_shards_and_counts_the_ingests(tmp_path: Path) -> None:
    ingest(source([1, 2, 3, 4]), tmp_path / "1")
    grown = ingest(source([1, 2, 3, 4, 5]), tmp_path / "2", tmp_path / "1")
    assert grown.num_new == 1
    old, new = tmp_path / "1" / "images-00000.tar", tmp_path / "2" / "images-00000.tar"
    assert old.samefile(new)
    assert {path.name for path in (tmp_path / "2").glob("*.tar")} == {"images-00000.tar", "images-00001.tar"}
    before = {row.path: row for row in read_manifest(tmp_path / "1")}
    for row in read_manifest(tmp_path / "2"):
        assert row == before.get(row.path, row)
        assert row.ingest_id == (1 if row.path == "b/0005.png" else 0)
    assert_readable(tmp_path / "2")
    ingest(source([1, 2, 3, 4, 5]), tmp_path / "3", tmp_path / "2")
    assert digests(tmp_path / "3") == digests(tmp_path / "2")


def test_a_renamed_or_relabelled_image_keeps_its_bytes_and_ingest_id(tmp_path: Path) -> None:
    ingest(source([1, 2]), tmp_path / "1")
    renamed = Source([SourceImage("z/new.png", ("z",), lambda: content(1)), source([2]).images[0]])
    version = ingest(renamed, tmp_path / "2", tmp_path / "1")
    assert [(row.path, row.label, row.ingest_id) for row in version.rows] == [
        ("a/0002.png", "a", 0),
        ("z/new.png", "z", 0),
    ]
    assert digests(tmp_path / "2")["images-00000.tar"] == digests(tmp_path / "1")["images-00000.tar"]


def copies(numbers: range) -> list[SourceImage]:
    return [SourceImage(f"a/again{number}.png", ("a",), lambda n=number: content(n)) for number in numbers]


def split_of(folder: Path) -> dict[str, str]:
    table = pq.read_table(folder / MANIFEST)
    section = {
        "method": "random",
        "fractions": {"train": 0.7, "val": 0.15, "test": 0.15},
        "folds": 0,
        "seed": 7,
        "given": "repair",
        "duplicates": {"max_bits": 7, "min_correlation": 0.985},
    }
    settings = SplitSettings.from_section("split", section)
    result = split_images(SplitImages.from_table(table), np.empty((0, 2), np.int64), settings)
    return dict(zip(table["path"].to_pylist(), [result.splits[split] for split in result.split_N], strict=True))


@pytest.mark.parametrize("num", [1, 20, 100])
def test_exact_copies_under_new_paths_move_no_image(tmp_path: Path, num: int) -> None:
    ingest(source(list(range(400))), tmp_path / "1")
    before = split_of(tmp_path / "1")
    grown = Source([*source(list(range(400))).images, *copies(range(num))])
    version = ingest(grown, tmp_path / "2", tmp_path / "1")
    after = split_of(tmp_path / "2")
    assert {path: after[path] for path in before} == before
    originals = {f"a/again{number}.png": f"{'ab'[number % 2]}/{number:04d}.png" for number in range(num)}
    assert all(after[copy] == before[original] for copy, original in originals.items())
    assert version.num_new == num
    ingest(grown, tmp_path / "3", tmp_path / "2")
    assert digests(tmp_path / "3") == digests(tmp_path / "2")


def test_a_copy_inherits_the_ingest_id_of_its_removed_original(tmp_path: Path) -> None:
    ingest(source(list(range(400))), tmp_path / "1")
    before = split_of(tmp_path / "1")
    ingest(Source([*source(list(range(400))).images, *copies(range(0, 80, 2))]), tmp_path / "2", tmp_path / "1")
    ingest(
        Source([*source([*range(1, 80, 2), *range(80, 400)]).images, *copies(range(0, 80, 2))]),
        tmp_path / "3",
        tmp_path / "2",
    )
    after = split_of(tmp_path / "3")
    assert all(after[path] == before[path] for path in after.keys() & before.keys())
    assert {row.ingest_id for row in read_manifest(tmp_path / "3")} == {0}


def test_equal_bytes_are_stored_once(tmp_path: Path) -> None:
    twice = Source([SourceImage(f"{label}/1.png", (label,), lambda: content(1)) for label in "ab"])
    first, second = ingest(twice, tmp_path / "raw").rows
    assert (first.shard, first.offset, first.sha256) == (second.shard, second.offset, second.sha256)


def test_removed_images_leave_the_manifest_and_unused_shards_are_dropped(tmp_path: Path) -> None:
    ingest(source([1, 2]), tmp_path / "1")
    ingest(source([1, 2, 3, 4]), tmp_path / "2", tmp_path / "1")
    ingest(source([3, 4]), tmp_path / "3", tmp_path / "2")
    assert {row.path for row in read_manifest(tmp_path / "3")} == {"b/0003.png", "a/0004.png"}
    assert {row.ingest_id for row in read_manifest(tmp_path / "3")} == {1}
    assert [path.name for path in (tmp_path / "3").glob("*.tar")] == ["images-00001.tar"]
    assert_readable(tmp_path / "3")


def test_growing_and_shrinking_back_is_the_first_version_again(tmp_path: Path) -> None:
    ingest(source([1, 2]), tmp_path / "1")
    ingest(source([1, 2, 3]), tmp_path / "2", tmp_path / "1")
    ingest(source([1, 2]), tmp_path / "3", tmp_path / "2")
    assert digests(tmp_path / "3") == digests(tmp_path / "1")


def test_going_back_to_another_source_is_its_version_again(tmp_path: Path) -> None:
    ingest(source([1, 2]), tmp_path / "1")
    other = ingest(source([3, 4, 5]), tmp_path / "2", tmp_path / "1")
    assert {row.ingest_id for row in other.rows} == {0}
    assert other.num_new == 3
    assert_readable(tmp_path / "2")
    ingest(source([1, 2]), tmp_path / "3", tmp_path / "2")
    assert digests(tmp_path / "3") == digests(tmp_path / "1")


@pytest.mark.parametrize(("kept", "repacked"), [(60, 0), (40, 1)])
def test_a_shard_is_repacked_when_more_than_half_of_it_is_unused(tmp_path: Path, kept: int, repacked: int) -> None:
    ingest(source(list(range(100)), size=5000), tmp_path / "1")
    fewer = source(list(range(kept)), size=5000)
    version = ingest(fewer, tmp_path / "2", tmp_path / "1")
    assert version.num_repacked == repacked
    assert {row.ingest_id for row in version.rows} == {0}
    assert_readable(tmp_path / "2")
    shards = list((tmp_path / "2").glob("*.tar"))
    assert len(shards) == 1
    assert (shards[0].stat().st_size < 300_000) == bool(repacked)
    ingest(fewer, tmp_path / "3", tmp_path / "2")
    assert digests(tmp_path / "3") == digests(tmp_path / "2")


def test_many_small_shards_are_merged_when_new_images_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_ingest, "MANY_SMALL_SHARDS", 3)
    counts = []
    for number in range(1, 6):
        before = tmp_path / str(number - 1) if number > 1 else None
        ingest(source(list(range(number + 1))), tmp_path / str(number), before)
        counts.append(len(list((tmp_path / str(number)).glob("*.tar"))))
        ingest(source(list(range(number + 1))), tmp_path / f"{number} again", tmp_path / str(number))
        assert digests(tmp_path / f"{number} again") == digests(tmp_path / str(number))
    assert counts == [1, 2, 3, 1, 2]
    assert_readable(tmp_path / "5")
    assert sorted(row.ingest_id for row in read_manifest(tmp_path / "5")) == [0, 0, 1, 2, 3, 4]


def test_large_sources_fill_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_ingest, "SHARD_BYTES", 20_000)
    ingest(source(list(range(40)), size=3000), tmp_path / "raw")
    assert len(list((tmp_path / "raw").glob("*.tar"))) > 3
    assert_readable(tmp_path / "raw")


def test_a_truncated_shard_is_not_reused(tmp_path: Path) -> None:
    ingest(source([1, 2]), tmp_path / "1")
    shard = tmp_path / "1" / "images-00000.tar"
    os.truncate(shard, 600)
    ingest(source([1, 2]), tmp_path / "2", tmp_path / "1")
    assert_readable(tmp_path / "2")


def test_a_damaged_shard_is_not_repacked_into_a_good_one(tmp_path: Path) -> None:
    ingest(source(list(range(100)), size=5000), tmp_path / "1")
    shard = tmp_path / "1" / "images-00000.tar"
    shard.write_bytes(shard.read_bytes().replace(content(1, 5000)[:40], b"\0" * 40))
    with pytest.raises(DataError, match="is damaged; restore the raw data with `dvc checkout`"):
        ingest(source([0, 1], size=5000), tmp_path / "2", tmp_path / "1")


def test_an_unreadable_file_is_quarantined_and_others_are_ingested(tmp_path: Path) -> None:
    def refuse() -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    given = Source([SourceImage("a/0.png", ("a",), refuse), *source([1, 2]).images])
    rows = ingest(given, tmp_path / "raw").rows
    assert [row.problem for row in rows] == ["can't be read: Permission denied", None, None]
    with pytest.raises(DataError, match=r"can be read \(1 × can't be read: Permission denied\), for one a/0\.png"):
        ingest(Source([given.images[0]]), tmp_path / "none")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*_: object) -> None:
        raise OSError(code, "as the system says")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(DarkroomError, match=r"is full \(.*\); free some space and ingest again"):
        ingest(source([1, 2]), tmp_path / "raw")


def test_only_a_few_images_are_read_ahead(tmp_path: Path) -> None:
    """A source larger than the memory must pass through it."""
    held: set[int] = set()
    most = 0

    class Counted(bytes):
        def __init__(self, *_: object) -> None:
            held.add(id(self))

        def __del__(self) -> None:
            held.discard(id(self))

    def read(number: int) -> bytes:
        nonlocal most
        made = Counted(content(number))
        most = max(most, len(held))
        return made

    images = [SourceImage(f"a/{number:04d}.png", ("a",), lambda n=number: read(n)) for number in range(400)]
    ingest(Source(images), tmp_path / "raw")
    assert 0 < most <= 64


def test_threads_that_need_one_shard_at_once_open_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    opened, open_file = [], os.open

    def slowly(*arguments: Any) -> int:
        time.sleep(0.05)
        opened.append(arguments)
        return open_file(*arguments)

    monkeypatch.setattr(os, "open", slowly)
    with RawImages(tmp_path) as store, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda place: store.read("a.tar", place, 1), range(4)))
    assert found == [b"0", b"1", b"2", b"3"]
    assert len(opened) == 1
