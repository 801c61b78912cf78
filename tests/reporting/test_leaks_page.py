"""The page of leaking pairs, from hand-made pairs."""

import pytest

from components.reporting.inline_pictures import Picture
from components.reporting.leaks_page import LeakingImage, LeakSection, Search, render_leaks


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x>'])
def test_the_page_shows_both_pictures_and_escapes_names(text: str) -> None:
    pair = tuple(LeakingImage(f"{text}.png", text, split) for split in ("train", "test"))
    page = render_leaks(
        [LeakSection("near", 3, [(pair[0], pair[1])])],
        search=Search(2, None, {"near": 3}, 0),
        excluded=[(text, text)],
        num_excluded=1,
        pictures={f"{text}.png": Picture("data:image/png;base64,AA", alt=text)},
    )
    assert text not in page
    assert page.count("data:image/png;base64,") == 2
    assert "3 pairs are in two splits" in page
    assert "The first 1 are shown; leaking_pairs.parquet lists all." in page
    assert "http:" not in page
    assert "https:" not in page


def test_a_split_without_leaks_says_so() -> None:
    search = Search(1000, 4321, {"exact": 7, "near": 8}, 1)
    page = render_leaks([LeakSection("exact", 0, [])], search=search, excluded=[], num_excluded=0, pictures={})
    assert "No pair is in two splits." in page
    words = " ".join(page.split())
    assert "1,000 images were compared, the hash of each with that of every other one: 499,500 pairs, of which" in words
    assert "4,321 with near hashes were compared picture by picture. Found, and kept together" in words
    assert "7 exact, 8 near. 1 comparison was left out." in words
