"""What a run has decoded once is read again by all its trainings and workers, to the same bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import epochs_of, packed_shapes, same
from logged import logged

from components.data.packed import decoded_cache, image_stores, shared_file
from components.data.packed.decoded_cache import decoded_once
from components.data.packed.loaders import open_split
from components.data.packed.shared_file import RefCountedFile, decoded_file


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_shapes(tmp_path_factory.mktemp("jpeg"), "jpeg")


@pytest.fixture(autouse=True)
def reported(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What is logged: nothing, but in tests whose name says so."""
    with logged() as messages:
        yield messages
    assert bool(messages) == request.node.name.endswith("says_so")


@pytest.fixture
def decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which each real decode of a stored JPEG leaves its row, from whatever process."""
    real, log = image_stores.JpegStore._decoded, tmp_path / "decodes"
    log.touch()

    def logged(store: image_stores.JpegStore, row: int) -> Any:
        with log.open("a") as stream:
            stream.write(f"{row}\n")
        return real(store, row)

    monkeypatch.setattr(image_stores.JpegStore, "_decoded", logged)
    return log


@pytest.mark.parametrize(("workers", "policy"), [(0, "none"), (2, "basic")])
def test_no_image_is_decoded_twice_by_all_trainings_of_a_run(
    packed: Path, tmp_path: Path, workers: int, policy: str, decodes: Path
) -> None:
    split, file = open_split(packed, "train"), tmp_path / "work" / "decoded"
    plain = epochs_of(split, 0, policy=policy)
    decodes.write_text("")
    run = RefCountedFile(file)
    for _ in range(2):
        with decoded_once(open_split(packed, "train"), file) as once:
            kept = epochs_of(once, workers, policy=policy)
            assert all(same(*both) for both in zip(plain, kept, strict=True))
        rows = [int(line) for line in decodes.read_text().split()]
        assert sorted(rows) == list(range(len(split))), "each once, by the first training alone"
    run.release()
    assert not file.exists()


def test_decoded_squares_need_no_file(tmp_path: Path) -> None:
    split = open_split(packed_shapes(tmp_path, "pixels"), "train")
    with decoded_once(split, tmp_path / "decoded") as once:
        assert once is split
        assert not (tmp_path / "decoded").exists()


def test_without_room_each_epoch_decodes_and_says_so(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = decoded_cache.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(decoded_cache.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    split = open_split(packed, "train")
    with logged() as messages, decoded_once(split, tmp_path / "job" / "decoded") as once:
        assert once is split
    assert [message.partition(":")[0] for message in messages] == [
        "JPEG training images are decoded again in each epoch"
    ]
    assert not (tmp_path / "job" / "decoded").exists()


def test_what_is_kept_already_needs_no_room_again(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, file = open_split(packed, "train"), tmp_path / "decoded"
    run = RefCountedFile(file)
    with decoded_once(split, file) as once:
        once.pixels_NHWC[:]
    usage = decoded_cache.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(decoded_cache.shutil, "disk_usage", lambda _: usage._replace(free=4096))
    with decoded_once(split, file) as once:
        assert once is not split
    run.release()


def test_where_files_can_not_be_locked_each_epoch_decodes_and_says_so(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(shared_file.fcntl, "flock", refuse)
    split = open_split(packed, "train")
    with logged() as messages, decoded_once(split, tmp_path / "decoded") as once:
        assert once is split
    assert messages[0].endswith("can't be shared between processes (Function not implemented)")


def test_what_a_killed_run_left_is_not_believed(packed: Path, tmp_path: Path) -> None:
    file, split = tmp_path / "decoded", open_split(packed, "train")
    file.write_bytes(b"\1" * (int(np.prod(split.pixels_NHWC.shape)) + len(split)))
    with decoded_once(split, file) as once:
        assert np.array_equal(once.pixels_NHWC[:], split.pixels_NHWC[:])


def test_a_disk_that_fills_under_the_file_costs_time_only(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    split = open_split(packed, "train")
    with decoded_once(split, tmp_path / "decoded") as once:
        monkeypatch.setattr(decoded_cache.os, "pwrite", full)
        for _ in range(2):
            assert np.array_equal(once.pixels_NHWC[:], split.pixels_NHWC[:])


def test_a_shared_file_is_there_as_long_as_anyone_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    first, second = RefCountedFile(file), RefCountedFile(file)
    file.write_text("kept")
    first.release()
    third = RefCountedFile(file)
    second.release()
    assert file.read_text() == "kept"
    third.release()
    assert not file.exists()


def test_machines_that_share_a_folder_keep_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = decoded_file(tmp_path, "digest")
    monkeypatch.setattr(shared_file.platform, "node", lambda: "another")
    assert decoded_file(tmp_path, "digest") != here
