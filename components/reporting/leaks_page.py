"""The page of leaking pairs: both images of each pair that is in two splits, side by side.

One HTML file that loads nothing from outside. What a user named is untrusted: all of it is escaped, and a content
policy forbids scripts and requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.reporting.inline_pictures import Picture
from components.reporting.page_template import render_template


@dataclass(frozen=True)
class LeakingImage:
    path: str
    label: str
    split: str


@dataclass(frozen=True)
class Search:
    """What the search for leaks looked at."""

    images: int
    """Number of images: the hash of each was compared with that of every other one."""
    candidates: int | None
    """Pairs with near hashes, whose pictures were compared."""
    found: Mapping[str, int]
    """Pairs found, by kind, wherever they stand."""
    left_out: int
    """Comparisons that were skipped."""


@dataclass(frozen=True)
class LeakSection:
    kind: str
    """exact, near, group or embedding."""
    count: int
    """Number of all pairs of this kind that are in two splits."""
    pairs: Sequence[tuple[LeakingImage, LeakingImage]]
    """The pairs to show."""


def render_leaks(
    sections: Sequence[LeakSection],
    *,
    search: Search,
    given: Sequence[LeakSection] | None = None,
    excluded: Sequence[tuple[str, str]],
    num_excluded: int,
    pictures: Mapping[str, Picture],
) -> str:
    """The page's HTML.

    `given` are the leaks of the author's own split, where ours departs from it; `excluded` the paths and reasons to
    show of all excluded images; `pictures` the images by path, as far as they are available.
    """
    return render_template(
        "leaks.html.j2",
        search=search,
        splits=[("", sections)] + ([] if given is None else [("As given: ", given)]),
        excluded=excluded,
        num_excluded=num_excluded,
        pictures=pictures,
    )
