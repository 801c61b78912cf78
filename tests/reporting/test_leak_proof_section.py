"""What the report says of the leak proof, and the pictures that it shows of it."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.reporting.inline_pictures import Picture
from components.reporting.leak_proof_section import leak_proof, paths_to_show
from components.reporting.pictures import Place, pictures_by_path

_PROOF: dict[str, Any] = {
    "digest": "a",
    "pairs": {"exact": 3, "near": 1200},
    "pairs_across_parts": {"exact": 0, "near": 1},
    "leaking": {"exact": [], "near": [["x", "y"]]},
    "as_given": {
        "pairs_across_parts": {"exact": 2, "near": 1100},
        "leaking": {"exact": [["a", "b"], ["c", "d"]], "near": [[f"{n}", f"{n}!"] for n in range(1000)]},
    },
    "moved_from_given_part": ["a", "c"],
    "comparisons_left_out": 0,
}


def test_a_proof_for_another_split_is_told_apart_from_one_whose_split_is_unknown() -> None:
    assert [leak_proof(_PROOF, digest).same_split for digest in ("a", "b", None)] == [True, False, None]


def test_the_parts_as_given_stand_beside_the_mended_ones() -> None:
    found = leak_proof(_PROOF, "a")
    assert [(line.kind, line.pairs, line.given, line.across) for line in found.lines] == [
        ("equal bytes", 3, 2, 0),
        ("nearly equal pictures", 1200, 1100, 1),
    ]
    assert found.as_given.startswith("1,102 pairs stood on two sides of the parts that the author gave.")
    assert "departs from these parts for 2 images, and 1 pair is left." in found.as_given
    assert [(pair.left, pair.right) for pair in found.leaking] == [("x", "y")]
    assert len(found.leaking_as_given) == 2 + found.most_shown
    assert paths_to_show(_PROOF) == {"x", "y", *"abcd", *(f"{n}{end}" for n in range(8) for end in ("", "!"))}
    free = leak_proof(_PROOF | {"as_given": {"pairs_across_parts": {"exact": 0}}}, "a")
    assert free.as_given == "The parts that the author gave were free of such pairs."
    insisted = leak_proof(_PROOF | {"as_given": None}, "a")
    assert (insisted.mended, insisted.as_given, found.mended) == (False, "", True)


@pytest.mark.parametrize(
    ("left_out", "complete", "words"),
    [(0, True, "was complete"), (12345, False, "12,345 comparisons were left out"), (None, None, "is unknown")],
)
def test_it_says_whether_every_pair_was_looked_for(left_out: int | None, complete: bool | None, words: str) -> None:
    found = leak_proof(_PROOF | {"comparisons_left_out": left_out}, "a")
    assert found.complete is complete
    assert words in found.search


def test_a_pair_has_pictures_where_both_can_be_had() -> None:
    picture = Picture("data:,", "")
    assert leak_proof(_PROOF, "a", {"x": picture}).leaking[0].pictures == ()
    assert leak_proof(_PROOF, "a", {"x": picture, "y": picture}).leaking[0].pictures == [picture, picture]


def test_pictures_are_those_of_the_very_images(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((300, 200, 3), 90, np.uint8)).save(stream, "PNG")
    shown = stream.getvalue()
    (tmp_path / "0.tar").write_bytes(shown)
    place, digest = Place("0.tar", 0, len(shown)), hashlib.sha256(shown).hexdigest()
    found = pictures_by_path({"here.png": (digest, place), "gone.png": ("0" * 64, place)}, tmp_path, max_megapixels=1)
    assert list(found) == ["here.png"]
    assert found["here.png"].source.startswith("data:image/jpeg;base64,")
