"""Batches: the same for any number of workers and after a resume; nothing is decoded again."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import augment, epochs_of, packed_shapes, same

from components.data.images import decoding
from components.data.packed.loaders import Batch, evaluation_loader, open_split, training_loader
from components.shared.errors import DataError


@pytest.fixture(scope="module", params=["pixels", "jpeg"])
def packed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return packed_shapes(tmp_path_factory.mktemp(request.param), request.param)


def epochs(folder: Path, workers: int, *, policy: str = "advanced", first: int = 0, last: int = 2) -> list[list[Batch]]:
    return epochs_of(open_split(folder, "train"), workers, policy=policy, first=first, last=last)


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
    split = open_split(packed, "train")
    loader = training_loader(split, batch_size=8, seed=3, augment=augment("advanced"), workers=0)
    images = torch.cat([batch.images_BHWC for batch in loader]).numpy()
    target = torch.cat([batch.target for batch in loader]).numpy()
    assert sorted(target) == sorted(split.target)
    copies = {split.pixels_NHWC[row].tobytes() for row in np.flatnonzero(split.copy_N)}
    seen = {image.tobytes() for image in images}
    assert copies <= seen
    originals = {split.pixels_NHWC[row].tobytes() for row in np.flatnonzero(split.copy_N == 0)}
    assert len(originals & seen) < len(originals) / 2


def test_evaluation_sees_the_split_in_its_order_and_as_it_is(packed: Path) -> None:
    split = open_split(packed, "val")
    batches = list(evaluation_loader(split, batch_size=4))
    assert np.array_equal(torch.cat([batch.images_BHWC for batch in batches]), split.pixels_NHWC[:])
    assert np.array_equal(torch.cat([batch.target for batch in batches]), split.target)


def test_a_split_pickles_as_its_place_and_not_as_its_pixels(packed: Path) -> None:
    split = open_split(packed, "train")
    content = pickle.dumps(split.pixels_NHWC)
    assert len(content) < 3000
    assert np.array_equal(pickle.loads(content)[:], split.pixels_NHWC[:])


def test_no_source_image_is_decoded_once_the_data_is_packed(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "_opened", refuse)
    monkeypatch.setattr(decoding, "_upright_size", refuse)
    assert len(epochs(packed, 0, last=1)) == 2


def test_an_empty_split_names_the_remedy(packed: Path) -> None:
    with pytest.raises(DataError, match=r"no images; change split.fractions or add images"):
        open_split(packed, "holdout")


def test_a_folder_that_holds_nothing_packed_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no packed data; run `darkroom prepare` first"):
        open_split(tmp_path, "train")
