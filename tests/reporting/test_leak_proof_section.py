"""What the report says of the leak proof, and the pictures that it shows of it."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.records.leak_proof import ClassDeviation, LeakProof, SplitLeaks
from components.reporting.inline_pictures import Picture
from components.reporting.leak_proof_section import leak_proof_section, paths_to_show
from components.reporting.pictures import ImageLocation, pictures_by_path

_PROOF = LeakProof(
    split_digest="a",
    images={"train": 4, "test": 4},
    clusters=4,
    pairs={"exact": 3, "near": 1200},
    comparisons_left_out=0,
    all_leaking="leaking_pairs.parquet",
    leaks=SplitLeaks({"exact": 0, "near": 1}, {"exact": [], "near": [("x", "y")]}, {"exact": 0, "near": 0}),
    leaks_as_given=SplitLeaks(
        {"exact": 2, "near": 1100},
        {"exact": [("a", "b"), ("c", "d")], "near": [(f"{n}", f"{n}!") for n in range(1000)]},
        {"exact": 0, "near": 100},
    ),
    moved_from_given_split=["a", "c"],
    excluded=[],
    largest_deviation=ClassDeviation("a", "test", 0.5, 0.5),
    settings={},
)


def test_a_proof_for_another_split_is_noticed() -> None:
    assert [leak_proof_section(_PROOF, digest).same_split for digest in ("a", "b")] == [True, False]


def test_the_splits_as_given_are_shown_beside_the_repaired_ones() -> None:
    found = leak_proof_section(_PROOF, "a")
    assert [(line.name, line.pairs, line.given, line.across) for line in found.lines] == [
        ("identical files", 3, 2, 0),
        ("near duplicates", 1200, 1100, 1),
    ]
    assert found.as_given.startswith("The splits that the author gave have 1,102 pairs across them.")
    assert "moved 2 images to another split before training, and 1 pair is left." in found.as_given
    assert [(pair.left, pair.right) for pair in found.leaking] == [("x", "y")]
    assert len(found.leaking_as_given) == 2 + found.most_shown
    assert paths_to_show(_PROOF) == {"x", "y", *"abcd", *(f"{n}{end}" for n in range(8) for end in ("", "!"))}
    clean = SplitLeaks({"exact": 0, "near": 0}, {}, {})
    free = leak_proof_section(_PROOF.model_copy(update={"leaks_as_given": clean}), "a")
    assert free.as_given == "The splits that the author gave have no such pairs."
    insisted = leak_proof_section(_PROOF.model_copy(update={"leaks_as_given": None}), "a")
    assert (insisted.repaired, insisted.as_given, found.repaired) == (False, "", True)


@pytest.mark.parametrize(
    ("left_out", "complete", "words"), [(0, True, "was complete"), (12345, False, "skipped 12,345 comparisons")]
)
def test_it_says_whether_every_pair_was_searched_for(left_out: int, complete: bool, words: str) -> None:
    found = leak_proof_section(_PROOF.model_copy(update={"comparisons_left_out": left_out}), "a")
    assert found.complete is complete
    assert words in found.search


def test_a_pair_has_pictures_where_both_can_be_had() -> None:
    picture = Picture("data:,", "")
    assert leak_proof_section(_PROOF, "a", {"x": picture}).leaking[0].pictures == ()
    assert leak_proof_section(_PROOF, "a", {"x": picture, "y": picture}).leaking[0].pictures == [picture, picture]


def test_pictures_are_those_of_the_very_images(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((300, 200, 3), 90, np.uint8)).save(stream, "PNG")
    shown = stream.getvalue()
    (tmp_path / "0.tar").write_bytes(shown)
    place, digest = ImageLocation("0.tar", 0, len(shown)), hashlib.sha256(shown).hexdigest()
    found = pictures_by_path({"here.png": (digest, place), "gone.png": ("0" * 64, place)}, tmp_path, max_megapixels=1)
    assert list(found) == ["here.png"]
    assert found["here.png"].source.startswith("data:image/jpeg;base64,")
