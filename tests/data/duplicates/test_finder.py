"""Copies are found however they were changed; pictures that only resemble each other are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from components.data.duplicates.finder import DuplicatePairs, DuplicateSettings, clusters, find_duplicates
from components.data.images.embeddings import EmbeddingSettings
from components.data.images.perceptual_hash import COLOUR_SIDE, SIDE, colour_grid, grey_square

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
        colour_NGG3=np.stack([colour_grid(np.asarray(image)) for image in images]),
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


def test_later_images_change_no_pair_of_earlier_ones_where_many_are_alike() -> None:
    """Their names come between those of earlier ones, and a hundred of one hash are more than are all compared."""
    random = np.random.default_rng(2)
    grey = np.repeat(grey_square(np.asarray(scene(1)))[None], 200, axis=0)
    grey[np.arange(200), 16, 16] += random.integers(0, 3, 200, np.uint8)
    names = np.array([str(number) for number in random.permutation(200)], dtype=object)
    colours = np.repeat(colour_grid(np.asarray(scene(1)))[None], 200, axis=0)

    def near(num: int) -> set[tuple[int, ...]]:
        found = find_duplicates(
            sha256_N=names[:num],
            thumbnail_NSS=grey[:num],
            colour_NGG3=colours[:num],
            ingest_id_N=np.where(np.arange(num) < 100, 0, 1),
            settings=SETTINGS,
        )
        assert found.num_cut > 0
        assert clusters(num, found.near).max() == 0
        return set(map(tuple, found.near.tolist()))

    assert {pair for pair in near(200) if max(pair) < 100} == near(100)


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


def test_plain_pictures_crowd_no_search() -> None:
    plain = [Image.new("RGB", (64, 64), "white")] * 100
    found = search([*plain, scene(1), recompressed(scene(1))])
    assert found.num_cut == 0
    assert found.near.tolist() == [[100, 101]]


def coloured(image: Image.Image, red: float, green: float, blue: float) -> Image.Image:
    return Image.fromarray((np.asarray(image) * (red, green, blue)).astype(np.uint8))


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_of_a_coloured_picture_is_found_and_its_recoloured_twin_is_not(change: str) -> None:
    # The three weigh the same in grey: 0.299 red + 0.587 green + 0.114 blue.
    shirt, other = coloured(scene(3), 0.9, 0.5, 0.5), coloured(scene(3), 0.45, 0.73, 0.49)
    assert np.abs(grey_square(np.asarray(shirt)).astype(int) - grey_square(np.asarray(other))).max() <= 2
    assert search([shirt, other, COPIES[change](shirt)]).near.tolist() == [[0, 2]]


def test_embeddings_find_what_pixels_do_not_and_are_a_type_of_their_own() -> None:
    images = [scene(seed) for seed in range(4)]
    settings = SETTINGS.model_copy(update={"embeddings": EmbeddingSettings(model="m.onnx", min_similarity=0.9)})
    found = find_duplicates(
        sha256_N=np.array(["a", "b", "c", "a"], dtype=object),
        thumbnail_NSS=np.stack([grey_square(np.asarray(image)) for image in images]),
        colour_NGG3=np.stack([colour_grid(np.asarray(image)) for image in images]),
        embedding_NF=np.array([[1, 0], [0, 1], [0.1, 1], [1, 0]], np.float32),
        settings=settings,
    )
    assert found.embedding is not None
    assert found.embedding.tolist() == [[1, 2]]
    assert found.exact.tolist() == [[0, 3]]
    assert clusters(4, found.exact, found.alike).tolist() == [0, 1, 1, 0]


def test_an_empty_set_has_no_pairs() -> None:
    nothing = np.empty((0, SIDE, SIDE), np.uint8)
    grid = np.empty((0, COLOUR_SIDE, COLOUR_SIDE, 3), np.uint8)
    found = find_duplicates(sha256_N=np.empty(0, object), thumbnail_NSS=nothing, colour_NGG3=grid, settings=SETTINGS)
    assert len(found.exact) == len(found.near) == 0
