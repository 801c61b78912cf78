import contextlib
import hashlib
import io
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from components.data.images.measurement import measure
from components.data.raw import measurement_cache, measurement_pass
from components.data.raw.dataset import SCHEMA
from components.data.raw.measurement_pass import measure_all
from components.shared.errors import DataError
from components.shared.progress import silent


def jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def raw_of(folder: Path, files: dict[str, bytes]) -> tuple[Path, pa.Table]:
    """A raw version of one shard, and its manifest."""
    folder.mkdir()
    rows, shard = [], b""
    for path, content in files.items():
        values = {"path": path, "label": path.split("/")[0], "sha256": hashlib.sha256(content).hexdigest()}
        rows.append(values | {"size_bytes": len(content), "shard": "images-00000.tar", "offset": len(shard)})
        shard += content
    (folder / "images-00000.tar").write_bytes(shard)
    return folder, pa.Table.from_pylist(rows, SCHEMA)


@pytest.fixture
def some(tmp_path: Path) -> tuple[Path, pa.Table]:
    files = {f"{label}/{number}.jpg": jpeg(number + 50 * (label == "b")) for label in "ab" for number in range(6)}
    return raw_of(tmp_path / "raw", files | {"a/cut.jpg": jpeg(99)[:-300], "b/text.jpg": b"no image"})


def passing(
    some: tuple[Path, pa.Table], cache: Path | None, max_megapixels: float = 100, code: str = "1"
) -> measurement_pass.MeasurementPass:
    raw, manifest = some
    return measure_all(manifest, raw, max_megapixels=max_megapixels, code=code, cache=cache, progress=silent)


def test_the_cache_changes_no_result_and_saves_the_second_pass(tmp_path, some) -> None:
    bare = passing(some, None)
    first = passing(some, tmp_path / "cache")
    second = passing(some, tmp_path / "cache")
    assert bare.outcomes == first.outcomes == second.outcomes
    assert (first.num_measured, first.num_cached) == (14, 0)
    assert (second.num_measured, second.num_cached) == (0, 14)


def test_the_cache_keeps_the_last_few_versions(tmp_path, some) -> None:
    for max_megapixels in (100, 90, 80, 70):
        passing(some, tmp_path / "cache", max_megapixels)
    with contextlib.closing(sqlite3.connect(tmp_path / "cache" / "outcomes.sqlite")) as kept:
        assert kept.execute("SELECT count(DISTINCT version) FROM batches").fetchone() == (3,)
    assert passing(some, tmp_path / "cache", 90).num_measured == 0
    assert passing(some, tmp_path / "cache", 100).num_measured == 14


def test_broken_files_get_their_reason(some) -> None:
    outcomes = passing(some, None).outcomes
    reasons = dict(zip(some[1]["path"].to_pylist(), outcomes["reason"].to_pylist(), strict=True))
    assert "broken" in reasons["a/cut.jpg"]
    assert "no image" in reasons["b/text.jpg"]
    assert [path for path, reason in reasons.items() if reason is None] == sorted(reasons)[:6] + sorted(reasons)[7:13]


def test_each_row_has_the_measurements_of_its_own_file(tmp_path) -> None:
    """Cached and new rows, equal bytes, rows without bytes, endings in odd places."""
    files = {f"a.b/{number}.jpg": jpeg(number) for number in range(7)}
    files |= {"a.b/again.jpg": jpeg(3), "a.b/wrong.png": jpeg(3), "a.b/.jpg": jpeg(4), "a.b/bare": jpeg(5)}
    raw, manifest = raw_of(tmp_path / "raw", files)
    lost = [{"path": "c/lost.jpg", "problem": "a link out of the folder"}, {"path": "c/nothing.jpg"}]
    manifest = pa.concat_tables([manifest.slice(4), pa.Table.from_pylist(lost, SCHEMA), manifest.slice(0, 4)])
    passing((raw, manifest.slice(2, 4)), tmp_path / "cache")
    both = passing((raw, manifest), tmp_path / "cache")
    assert (both.num_cached, both.num_measured) == (6, 4)
    for row, outcome in zip(manifest.to_pylist(), both.outcomes.to_pylist(), strict=True):
        reason = outcome.pop("reason")
        if row["shard"] is None:
            assert reason == (row["problem"] or "the file has no content")
        else:
            assert outcome == vars(measure(files[row["path"]], max_megapixels=100))


def test_other_settings_and_other_code_measure_again(tmp_path, some) -> None:
    passing(some, tmp_path / "cache")
    strict = passing(some, tmp_path / "cache", max_megapixels=0.0001)
    assert strict.num_cached == passing(some, tmp_path / "cache", code="2").num_cached == 0
    assert strict.outcomes["reason"].null_count == 0


def test_a_killed_pass_resumes_where_it_stopped(tmp_path, some, monkeypatch) -> None:
    monkeypatch.setattr(measurement_pass, "_BATCH", 3)

    def stop(task: str, done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    raw, manifest = some
    with pytest.raises(KeyboardInterrupt):
        measure_all(manifest, raw, max_megapixels=100, code="1", cache=tmp_path / "cache", progress=stop)
    again = passing(some, tmp_path / "cache")
    assert again.num_cached >= 6
    assert again.outcomes == passing(some, None).outcomes


def test_processes_find_what_threads_find(some, monkeypatch) -> None:
    threads = passing(some, None)
    monkeypatch.setattr(measurement_pass, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(measurement_pass, "_BATCH", 5)
    assert passing(some, None).outcomes == threads.outcomes


def test_a_damaged_cache_is_replaced(tmp_path, some) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "outcomes.sqlite").write_bytes(b"this is no database" * 100)
    assert passing(some, tmp_path / "cache").outcomes == passing(some, None).outcomes
    assert passing(some, tmp_path / "cache").num_cached == 14


def test_a_cache_with_a_damaged_page_is_replaced(tmp_path, some) -> None:
    passing(some, tmp_path / "cache")
    with (tmp_path / "cache" / "outcomes.sqlite").open("r+b") as stream:
        stream.seek(measurement_cache._PAGE_BYTES)
        stream.write(b"\xff" * 100)
    assert passing(some, tmp_path / "cache").outcomes == passing(some, None).outcomes
    assert passing(some, tmp_path / "cache").num_cached == 14


@pytest.mark.parametrize("column", ["keys", "content"])
@pytest.mark.parametrize(
    "damaged",
    [
        lambda blob: None,
        lambda blob: "text",
        lambda blob: b"",
        lambda blob: bytes(4),
        lambda blob: blob[:400],
        lambda blob: blob[:-600] + bytes([blob[-600] ^ 1]) + blob[-599:],
    ],
    ids=["null", "text", "nothing", "zeros", "cut", "one bit"],
)
def test_damaged_batches_are_measured_again(
    tmp_path, some, monkeypatch, column: str, damaged: Callable[[bytes], object]
) -> None:
    monkeypatch.setattr(measurement_pass, "_BATCH", 7)
    first = passing(some, tmp_path / "cache")
    with contextlib.closing(sqlite3.connect(tmp_path / "cache" / "outcomes.sqlite")) as connection, connection:
        [[blob]] = connection.execute(f"SELECT {column} FROM batches WHERE rowid = 1")
        connection.execute(f"UPDATE batches SET {column} = ? WHERE rowid = 1", (damaged(blob),))
    again = passing(some, tmp_path / "cache")
    assert (again.num_cached, again.num_measured) == (7, 7)
    assert again.outcomes == first.outcomes
    assert passing(some, tmp_path / "cache").num_cached == 14


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_skipped(tmp_path, some) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert passing(some, tmp_path / "cache").outcomes == passing(some, None).outcomes


def test_passes_at_the_same_time_use_one_cache(tmp_path, some) -> None:
    found: list[measurement_pass.MeasurementPass] = []
    threads = [threading.Thread(target=lambda: found.append(passing(some, tmp_path / "cache"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.outcomes == found[0].outcomes for one in found)
    assert len(found) == 4


def test_bytes_that_differ_from_the_manifest_are_refused(some) -> None:
    raw, _ = some
    shard = next(raw.glob("*.tar"))
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"a/0\.jpg.*dvc checkout"):
        passing(some, None)


@pytest.mark.parametrize("run", [1, 7, 100])
def test_runs_of_rows_are_taken_like_single_rows(run: int) -> None:
    table = pa.concat_tables([pa.table({"a": range(500), "b": [str(n).encode() for n in range(500)]})] * 3)
    draw = np.random.default_rng(run)
    indices = np.concatenate([start + np.arange(run) for start in draw.integers(0, 1500 - run, 2000 // run)])
    for missing in (np.zeros(len(indices), bool), np.arange(len(indices)) % 301 == 0, np.arange(len(indices)) < 3):
        wanted = pa.array(indices, mask=missing)
        assert measurement_pass._take(table, wanted).equals(table.take(wanted))
    first = pa.array([None, *range(run)])
    assert measurement_pass._take(table, first).equals(table.take(first))
    assert len(measurement_pass._take(table, first.slice(0, 0))) == 0
