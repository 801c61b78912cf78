"""Batches: the same for any number of workers and after a resume; nothing is decoded again."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shapes import AUGMENT, PREPROCESS, raw_version, space_of

from components.data import decoding, loading, stores
from components.data.augmentation import AugmentSettings
from components.data.loading import Batch, PackedPart, decoded_once, evaluation_loader, open_part, training_loader
from components.data.packing import pack
from components.errors import DataError
from components.progress import silent


@pytest.fixture(scope="module", params=["pixels", "jpeg"])
def packed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    images = raw_version(folder / "raw", {"circle": 24, "square": 15})
    pack(
        images,
        labels=space_of(images),
        raw=folder / "raw",
        folder=folder / "augmented",
        split_digest="digest",
        preprocess=PREPROCESS,
        augment=augment("basic", copies=1, store=request.param),
        progress=silent,
    )
    return folder / "augmented"


def augment(policy: str, **changed: Any) -> AugmentSettings:
    return AugmentSettings.from_section("augment", AUGMENT | {"policy": policy} | changed)


def epochs(folder: Path, workers: int, *, policy: str = "advanced", first: int = 0, last: int = 2) -> list[list[Batch]]:
    return epochs_of(open_part(folder, "train"), workers, policy=policy, first=first, last=last)


def epochs_of(part: PackedPart, workers: int, *, policy: str, first: int = 0, last: int = 2) -> list[list[Batch]]:
    loader = training_loader(part, batch_size=8, seed=3, augment=augment(policy), workers=workers)
    batches = []
    for epoch in range(first, last + 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches.append([Batch(*(values.clone() for values in batch)) for batch in loader])
    return batches


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(*values) for both in pairs for values in zip(*both, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker")
@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("policy", ["advanced", "trivialaugment"])
def test_draws_are_the_same_for_any_number_of_workers(packed: Path, workers: int, policy: str) -> None:
    alone = epochs(packed, 0, policy=policy, last=1)
    many = epochs(packed, workers, policy=policy, last=1)
    assert all(same(*both) for both in zip(alone, many, strict=True))
    assert not same(alone[0], alone[1])


def test_draws_are_the_same_after_a_resume(packed: Path) -> None:
    through = epochs(packed, 0)
    resumed = epochs(packed, 2, first=2)
    assert same(through[2], resumed[0])


def test_an_epoch_has_each_image_once_and_copies_as_they_are(packed: Path) -> None:
    part = open_part(packed, "train")
    loader = training_loader(part, batch_size=8, seed=3, augment=augment("advanced"), workers=0)
    images = torch.cat([batch.images_BHWC for batch in loader]).numpy()
    target = torch.cat([batch.target for batch in loader]).numpy()
    assert sorted(target) == sorted(part.target)
    copies = {part.pixels_NHWC[row].tobytes() for row in np.flatnonzero(part.copy_N)}
    seen = {image.tobytes() for image in images}
    assert copies <= seen
    originals = {part.pixels_NHWC[row].tobytes() for row in np.flatnonzero(part.copy_N == 0)}
    assert len(originals & seen) < len(originals) / 2


def test_evaluation_sees_the_part_in_its_order_and_as_it_is(packed: Path) -> None:
    part = open_part(packed, "val")
    batches = list(evaluation_loader(part, batch_size=4))
    assert np.array_equal(torch.cat([batch.images_BHWC for batch in batches]), part.pixels_NHWC[:])
    assert np.array_equal(torch.cat([batch.target for batch in batches]), part.target)


def test_a_part_pickles_as_its_place_and_not_as_its_pixels(packed: Path) -> None:
    part = open_part(packed, "train")
    content = pickle.dumps(part.pixels_NHWC)
    assert len(content) < 3000
    assert np.array_equal(pickle.loads(content)[:], part.pixels_NHWC[:])


def test_no_source_image_is_decoded_once_the_data_is_packed(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "_opened", refuse)
    monkeypatch.setattr(decoding, "_plain_size", refuse)
    assert len(epochs(packed, 0, last=1)) == 2


def test_an_empty_part_names_the_remedy(packed: Path) -> None:
    with pytest.raises(DataError, match=r"no images; change split.fractions or add images"):
        open_part(packed, "holdout")


def log_decodes(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each real decode of a stored JPEG leaves its row in the file, from whatever process."""
    real = stores.JpegStore._decoded
    log.touch()

    def logged(store: stores.JpegStore, row: int) -> Any:
        with log.open("a") as stream:
            stream.write(f"{row}\n")
        return real(store, row)

    monkeypatch.setattr(stores.JpegStore, "_decoded", logged)


@pytest.mark.parametrize("policy", ["none", "basic"])
@pytest.mark.parametrize("workers", [0, 2])
def test_no_image_is_decoded_twice_in_a_run(
    packed: Path, tmp_path: Path, workers: int, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = epochs(packed, 0, policy=policy)
    log_decodes(tmp_path / "log", monkeypatch)
    part, scratch = open_part(packed, "train"), tmp_path / "job" / "decoded"
    is_jpeg = isinstance(part.pixels_NHWC, stores.JpegStore)
    with decoded_once(part, scratch, say=pytest.fail) as once:
        assert scratch.exists() == is_jpeg
        kept = epochs_of(once, workers, policy=policy)
        assert np.array_equal(once.pixels_NHWC[:], open_part(packed, "train").pixels_NHWC[:])
    assert not scratch.exists()
    assert all(same(*both) for both in zip(plain, kept, strict=True))
    rows = [int(line) for line in (tmp_path / "log").read_text().split()]
    # The comparison with the part itself decodes each image once more.
    assert sorted(rows) == (sorted([*range(len(part)), *range(len(part))]) if is_jpeg else [])


def test_without_room_each_epoch_decodes_and_says_so(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = loading.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    part, said = open_part(packed, "train"), []
    with decoded_once(part, tmp_path / "job" / "decoded", say=said.append) as once:
        assert once is part
        assert not (tmp_path / "job" / "decoded").exists()
    is_jpeg = isinstance(part.pixels_NHWC, stores.JpegStore)
    assert [sentence.partition(":")[0] for sentence in said] == [
        "the training images lie as JPEG and are decoded anew each epoch"
    ] * is_jpeg


def test_what_a_killed_run_left_is_not_believed(packed: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "decoded"
    part = open_part(packed, "train")
    scratch.write_bytes(b"\1" * (int(np.prod(part.pixels_NHWC.shape)) + len(part)))
    with decoded_once(part, scratch, say=pytest.fail) as once:
        assert np.array_equal(once.pixels_NHWC[:], part.pixels_NHWC[:])


def test_a_disk_that_fills_under_the_scratch_file_costs_time_only(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    part = open_part(packed, "train")
    with decoded_once(part, tmp_path / "decoded", say=pytest.fail) as once:
        monkeypatch.setattr(stores.os, "pwrite", full)
        for _ in range(2):
            assert np.array_equal(once.pixels_NHWC[:], part.pixels_NHWC[:])
