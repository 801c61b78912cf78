"""The splits as they are packed: copies in the training split alone, whole or not at all, equal bytes again."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from shapes import AUGMENT, PREPROCESS, photograph, raw_version, space_of

from components.data.augmentation.augmenter import AugmentSettings
from components.data.images.decoding import decode
from components.data.images.preprocessing import PreprocessSettings, square_of, to_square
from components.data.packed import image_stores, packing
from components.data.packed.loaders import open_split
from components.data.packed.packing import Dataset, SplitImage, pack, read_dataset
from components.shared.errors import DarkroomError, DataError
from components.shared.files import read_json
from components.shared.progress import silent


def packed(tmp_path: Path, counts: dict[str, int], name: str = "augmented", **augment: Any) -> tuple[Path, Dataset]:
    images = raw_version(tmp_path / "raw", counts)
    return tmp_path / name, pack_images(images, tmp_path / "raw", tmp_path / name, **augment)


def pack_images(images: list[SplitImage], raw: Path, folder: Path, **augment: Any) -> Dataset:
    return pack(
        images,
        labels=space_of(images),
        raw=raw,
        folder=folder,
        split_digest="digest",
        preprocess=PREPROCESS,
        augment=AugmentSettings.from_section("augment", AUGMENT | augment),
        progress=silent,
    )


def digests(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_packed_image_is_what_serving_makes_of_the_file(tmp_path: Path) -> None:
    images = raw_version(tmp_path / "raw", {"circle": 12})
    pack_images(images, tmp_path / "raw", tmp_path / "augmented")
    split = open_split(tmp_path / "augmented", "val")
    content = {image.path: (tmp_path / "raw" / image.shard).read_bytes() for image in images}
    for image in images:
        if image.split == "val":
            square = square_of(content[image.path][image.offset : image.offset + image.size_bytes], PREPROCESS)
            assert np.array_equal(split.pixels_NHWC[split.path_N.index(image.path)], square)


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        packed(tmp_path, {"circle": 12, "square": 9}, name, copies=1, balance=0.9)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


@pytest.mark.parametrize(
    ("copies", "balance", "expected"),
    [
        (0, 0.0, {"circle": 30, "square": 3, "stripes": 12}),
        (0, 0.1, {"circle": 30, "square": 3, "stripes": 12}),  # as a binary number 0.1 of 30 is more than 3
        (0, 0.5, {"circle": 30, "square": 15, "stripes": 15}),
        (0, 1.0, {"circle": 30, "square": 30, "stripes": 30}),
        (1, 0.0, {"circle": 60, "square": 6, "stripes": 24}),
        (2, 0.5, {"circle": 90, "square": 45, "stripes": 45}),
    ],
)
def test_copies_lift_rare_classes_to_their_fraction_of_the_largest(
    tmp_path: Path, copies: int, balance: float, expected: dict[str, int]
) -> None:
    images = raw_version(tmp_path / "raw", {"circle": 30, "square": 3, "stripes": 12}, splits=("train",))
    test = [SplitImage(**(vars(images[0]) | {"split": "test", "path": "held out"}))]
    dataset = pack_images([*images, *test], tmp_path / "raw", tmp_path / "augmented", copies=copies, balance=balance)
    split = open_split(tmp_path / "augmented", "train")
    assert Counter(dataset.classes[index] for index in split.target) == expected
    assert dataset.copies == sum(expected.values()) - 45
    assert not open_split(tmp_path / "augmented", "test").copy_N.any()


def test_the_copies_of_an_image_differ_from_it_and_from_each_other(tmp_path: Path) -> None:
    folder, _ = packed(tmp_path, {"circle": 6}, copies=3)
    split = open_split(folder, "train")
    for path in set(split.path_N):
        rows = [row for row, other in enumerate(split.path_N) if other == path]
        assert sorted(split.copy_N[rows]) == [0, 1, 2, 3]
        # One draw of twenty leaves an image as it is.
        assert len({split.pixels_NHWC[row].tobytes() for row in rows}) >= 3


def test_the_statistics_are_those_of_the_training_originals(tmp_path: Path) -> None:
    folder, dataset = packed(tmp_path, {"circle": 12, "square": 12}, copies=2)
    split = open_split(folder, "train")
    originals = split.pixels_NHWC[split.copy_N == 0] / 255
    np.testing.assert_allclose(dataset.mean, originals.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(dataset.std, originals.std(axis=(0, 1, 2)), atol=1e-6)
    assert read_dataset(folder) == dataset
    assert PreprocessSettings.from_section("preprocess", dataset.preprocess) == PREPROCESS


def test_many_shards_read_as_one_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = packed(tmp_path, {"circle": 20}, "whole", copies=1)
    monkeypatch.setattr(image_stores, "SHARD_BYTES", 3 * 3 * PREPROCESS.image_size_px**2)
    packed(tmp_path, {"circle": 20}, "sharded", copies=1)
    assert len(list((tmp_path / "sharded").glob("train-*.npy"))) > 4
    one, many = (open_split(folder, "train").pixels_NHWC for folder in (whole, tmp_path / "sharded"))
    everything = one[:]
    assert many.shape == everything.shape == (len(many), 32, 32, 3)
    random = np.random.default_rng(0).permutation(len(many))
    for rows in (slice(None), slice(2, 11, 3), random, random > 9, [5, 1, 5], slice(0, 0)):
        assert np.array_equal(many[rows], everything[rows])
    assert np.array_equal(many[7], everything[7])
    assert np.array_equal(many[-1], everything[-1])
    with pytest.raises(IndexError):
        many[len(many)]


def test_the_jpeg_store_takes_less_room_and_stays_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _ = packed(tmp_path, {"circle": 20, "square": 20}, "pixels", copies=1)
    monkeypatch.setattr(image_stores, "SHARD_BYTES", 4096)
    jpeg, dataset = packed(tmp_path, {"circle": 20, "square": 20}, "jpeg", copies=1, store="jpeg")
    assert dataset.stores == {"train": "jpeg", "val": "pixels", "test": "pixels"}
    assert len(list(jpeg.glob("train-*.jpegs"))) > 1
    exact, lossy = open_split(pixels, "train"), open_split(jpeg, "train")
    assert exact.path_N == lossy.path_N
    originals = np.flatnonzero(exact.copy_N == 0)
    difference = exact.pixels_NHWC[originals].astype(int) - lossy.pixels_NHWC[originals]
    assert 0 < np.abs(difference).mean() < 4
    assert np.array_equal(lossy.pixels_NHWC[3], lossy.pixels_NHWC[[3]][0])
    size = {folder: sum(file.stat().st_size for file in folder.glob("train-*")) for folder in (pixels, jpeg)}
    assert size[jpeg] < 0.7 * size[pixels]
    assert np.array_equal(open_split(pixels, "test").pixels_NHWC[:], open_split(jpeg, "test").pixels_NHWC[:])


@pytest.mark.parametrize(("limit", "store"), [(8.0, "pixels"), (1e-5, "jpeg")])
def test_auto_keeps_pixels_up_to_the_limit(tmp_path: Path, limit: float, store: str) -> None:
    _, dataset = packed(tmp_path, {"circle": 12}, store="auto", pixels_limit_gib=limit)
    assert dataset.stores["train"] == store


def test_every_policy_has_its_preview_and_its_statistics(tmp_path: Path) -> None:
    folder, dataset = packed(tmp_path, {"circle": 12}, policy="medical")
    statistics = read_json(folder / "previews" / "statistics.json")
    named = {"basic", "advanced", "medical", "autoaugment", "randaugment", "trivialaugment"}
    assert set(statistics) == {file.stem for file in (folder / "previews").glob("*.png")} == named
    assert (folder / "preview.png").read_bytes() == (folder / "previews" / "medical.png").read_bytes()
    for both in statistics.values():
        np.testing.assert_allclose(both["original"]["mean"], dataset.mean, atol=0.05)
        assert both["augmented"] != both["original"]
        np.testing.assert_allclose(np.sum(both["augmented"]["histogram"], axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("policy", ["none", "pipeline"])
def test_a_choice_outside_the_named_policies_has_its_preview_too(tmp_path: Path, policy: str) -> None:
    pipeline = ["VerticalFlip"] if policy == "pipeline" else []
    folder, _ = packed(tmp_path, {"circle": 12}, policy=policy, pipeline=pipeline)
    assert (folder / "preview.png").read_bytes() != (folder / "previews" / "basic.png").read_bytes()


def test_no_training_image_is_one_sentence(tmp_path: Path) -> None:
    images = raw_version(tmp_path / "raw", {"circle": 3}, splits=("test",))
    with pytest.raises(DataError, match="train split holds no images"):
        pack_images(images, tmp_path / "raw", tmp_path / "augmented")


def test_what_does_not_fit_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = raw_version(tmp_path / "raw", {"circle": 20})
    usage = packing.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    with pytest.raises(
        DarkroomError, match=r"needs 0\.1 MB in .*augmented, which has 0\.0 MB free: free some, lower"
    ) as lack:
        pack_images(images, tmp_path / "raw", tmp_path / "augmented")
    assert lack.value.exit_code == 1, "3 is for what is wrong with the data"
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("store", ["pixels", "jpeg"])
def test_a_disk_that_fills_leaves_nothing_half_packed(tmp_path: Path, store: str) -> None:
    """A limit on the size of a file stands for the full disk: the same system call fails, only later in its life."""
    script = """
import resource, sys
from pathlib import Path
from shapes import raw_version
from test_packing import pack_images
folder = Path(sys.argv[1])
images = raw_version(folder / "raw", {"circle": 60}, splits=("train",))
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
pack_images(images, folder / "raw", folder / "augmented", copies=2, store=sys.argv[2])
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), store],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("components.shared.errors.DarkroomError: packing needs about "), run.stderr
    assert "its disk is full (file too large): free some" in last
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


def test_an_earlier_packing_survives_a_failed_one(tmp_path: Path) -> None:
    folder, _ = packed(tmp_path, {"circle": 12})
    before = digests(folder)
    images = raw_version(tmp_path / "raw", {"circle": 12})
    broken = SplitImage(**(vars(images[-1]) | {"offset": 10**9}))
    with pytest.raises(DataError, match="is cut short"):
        pack_images([*images[:-1], broken], tmp_path / "raw", folder)
    assert digests(folder) == before


def test_a_large_jpeg_is_decoded_small_but_never_below_the_square() -> None:
    content = photograph(533, 400)
    for size, resize in ((32, "crop"), (100, "pad"), (224, "stretch")):
        settings = PreprocessSettings(image_size_px=size, resize=resize, max_megapixels=100)
        full = to_square(decode(content, max_megapixels=100).pixels_HWC, settings)
        small = square_of(content, settings)
        assert small.shape == full.shape
        assert np.abs(small.astype(int) - full).mean() < 2


def test_the_index_says_where_each_image_lies(tmp_path: Path) -> None:
    folder, _ = packed(tmp_path, {"circle": 12}, store="jpeg")
    index = pq.read_table(folder / "index.parquet").to_pylist()
    row = next(row for row in index if row["split"] == "train" and row["row"] == 2)
    content = (folder / f"train-{row['shard']:05d}.jpegs").read_bytes()
    jpeg = content[row["offset"] : row["offset"] + row["size_bytes"]]
    pixels = decode(jpeg, max_megapixels=1).pixels_HWC
    assert np.array_equal(pixels, open_split(folder, "train").pixels_NHWC[2])


def test_an_error_on_an_image_names_its_path(tmp_path: Path) -> None:
    images = raw_version(tmp_path / "raw", {"circle": 3}, splits=("train",))
    shard = tmp_path / "raw" / images[1].shard
    content = bytearray(shard.read_bytes())
    content[images[1].offset : images[1].offset + 8] = b"no image"
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{images[1].path}: the content is no image"):
        pack_images(images, tmp_path / "raw", tmp_path / "augmented")
