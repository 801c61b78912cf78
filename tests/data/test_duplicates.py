"""Copies are found however they were changed; pictures that only resemble each other are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from components.data import duplicates
from components.data.duplicates import (
    Cut,
    DuplicatePairs,
    DuplicateSettings,
    candidate_pairs,
    clusters,
    find_duplicates,
)
from components.data.hashing import SIDE, distance, grey_square

SETTINGS = DuplicateSettings(max_bits=7, min_correlation=0.98)


def scene(seed: int, side: int = 128) -> Image.Image:
    random = np.random.default_rng(seed)
    grey = np.sum([gaussian_filter(random.normal(size=(side, side)), blur) * blur for blur in (2, 5, 12)], axis=0)
    grey = (grey - grey.min()) / np.ptp(grey) * 190 + 20
    return Image.fromarray(np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2))


def recompressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=30)
    return Image.open(stream).convert("RGB")


COPIES = {
    "JPEG quality 30": recompressed,
    "half": lambda image: image.resize((64, 64), Image.Resampling.LANCZOS),
    "double": lambda image: image.resize((256, 256), Image.Resampling.BICUBIC),
    "mirror": ImageOps.mirror,
    "darker": lambda image: image.point(lambda value: int(value * 0.8)),
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.2))),
    "crop in a corner": lambda image: image.crop((0, 0, 115, 115)),
    "crop off the grid": lambda image: image.crop((5, 9, 120, 124)),
    "mirrored crop": lambda image: ImageOps.mirror(image.crop((13, 2, 128, 117))),
    "white border": lambda image: ImageOps.expand(image, 4, "white"),
    "black border": lambda image: ImageOps.expand(image, 4, "black"),
}


def search(images: list[Image.Image], sha256: list[str] | None = None) -> DuplicatePairs:
    return find_duplicates(
        sha256_N=np.array(sha256 or [str(number) for number in range(len(images))], dtype=object),
        thumbnail_NSS=np.stack([grey_square(np.asarray(image)) for image in images]),
        settings=SETTINGS,
    )


@pytest.mark.parametrize("change", COPIES)
def test_a_changed_copy_is_found_and_nothing_else(change: str) -> None:
    images = [scene(seed) for seed in range(8)]
    found = search([*images, COPIES[change](images[3])])
    assert found.near.tolist() == [[3, 8]]
    assert found.num_cut == 0


def test_equal_bytes_are_exact_and_not_near() -> None:
    found = search([scene(1), scene(2), scene(1)], ["a", "b", "a"])
    assert found.exact.tolist() == [[0, 2]]
    assert found.near.tolist() == []


def test_scenes_of_one_layout_with_other_details_do_not_join() -> None:
    random = np.random.default_rng(5)
    ground = np.asarray(scene(0)).astype(float)
    images = [
        Image.fromarray(
            (ground * 0.8 + 25 + 60 * gaussian_filter(random.normal(size=(128, 128, 1)), (3, 3, 0)) * 6)
            .clip(0, 255)
            .astype(np.uint8)
        )
        for _ in range(6)
    ]
    assert len(search(images).near) == 0


def test_plain_pictures_never_join() -> None:
    random = np.random.default_rng(6)
    images = [Image.fromarray(random.integers(120, 123, (64, 64, 3), dtype=np.uint8)) for _ in range(50)]
    assert len(search(images).near) == 0


def test_the_join_finds_every_pair_that_comparing_all_pairs_finds() -> None:
    random = np.random.default_rng(7)
    hashes = random.integers(0, 1 << 63, 400, dtype=np.uint64)
    flips = np.array(
        [sum(1 << int(bit) for bit in random.choice(64, count % 10, False)) for count in range(400)], np.uint64
    )
    both = np.concatenate([hashes, hashes ^ flips])
    left, right = np.nonzero(np.triu(distance(both[:, None], both[None]) <= 7, 1))
    wanted = set(zip(left.tolist(), right.tolist(), strict=True))
    within = {tuple(sorted(pair)) for batch in candidate_pairs(both, both, max_bits=7) for pair in batch.tolist()}
    assert {pair for pair in within if pair[0] != pair[1]} == wanted
    across = {tuple(pair) for batch in candidate_pairs(both, both.copy(), max_bits=7) for pair in batch.tolist()}
    assert {pair for pair in across if pair[0] < pair[1]} == wanted


def test_a_cut_of_a_hot_bucket_is_counted_and_keeps_equal_hashes_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    equal = np.full(300, 5, np.uint64)
    cut = Cut()
    pairs = np.concatenate(list(candidate_pairs(equal, equal, max_bits=7, cut=cut)))
    assert cut.pairs > 0
    assert len(pairs) < 300 * 100
    assert clusters(300, pairs).max() == 0

    monkeypatch.setattr(duplicates, "MAX_BUCKET", 3)
    crowded = np.arange(20, dtype=np.uint64) << np.uint64(16)
    cut = Cut()
    list(candidate_pairs(crowded, crowded.copy(), max_bits=7, cut=cut))
    assert cut.pairs > 0


def test_an_empty_set_has_no_pairs() -> None:
    nothing = np.empty((0, SIDE, SIDE), np.uint8)
    found = find_duplicates(sha256_N=np.empty(0, object), thumbnail_NSS=nothing, settings=SETTINGS)
    assert len(found.exact) == len(found.near) == 0
