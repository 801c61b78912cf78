"""The part of the report on the leak proof: pairs across parts, now and as the author gave them, with pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.reporting.inline_pictures import Picture
from components.reporting.record_fields import Record, whole_of

_KINDS = {
    "exact": "equal bytes",
    "near": "nearly equal pictures",
    "group": "the same group",
    "embedding": "alike to the model",
}
_SHOWN_OF_A_KIND = 8


@dataclass(frozen=True)
class LeakLine:
    kind: str
    pairs: int | None
    across: int | None
    given: int | None = None
    """Across the parts that the author gave."""


@dataclass(frozen=True)
class LeakPair:
    """Two images that are one picture, or of one group, on two sides of the split."""

    kind: str
    left: str
    right: str
    pictures: Sequence[Picture] = ()
    """Of both, or none where they are out of reach."""


@dataclass(frozen=True)
class LeakProof:
    lines: Sequence[LeakLine]
    leaking: Sequence[LeakPair] = ()
    """Some of the pairs that stand on two sides."""
    leaking_as_given: Sequence[LeakPair] = ()
    """Some of those that stood on two sides of the author's own parts."""
    as_given: str = ""
    """What became of the author's own parts, in a sentence; empty where there were none, or nothing was to mend."""
    search: str = ""
    """Whether every pair was looked for, in a sentence."""
    complete: bool | None = None
    same_split: bool | None = None
    """Whether the proof was made for the split that the model was trained on."""
    most_shown: int = _SHOWN_OF_A_KIND
    """Of each kind so many pairs are shown."""

    @property
    def mended(self) -> bool:
        """Whether the split departs from parts that the author gave."""
        return any(line.given is not None for line in self.lines)


def leak_proof(proof: Record, split_digest: str | None, pictures: Mapping[str, Picture] | None = None) -> LeakProof:
    """From leakage.json; `pictures` by path, of as many of `paths_to_show` as can be had."""
    found, across = proof.get("pairs", {}), proof.get("pairs_across_parts", {})
    given = (proof.get("as_given") or {}).get("pairs_across_parts", {})
    digest, left_out = proof.get("digest"), whole_of(proof, "comparisons_left_out")
    return LeakProof(
        lines=[
            LeakLine(_KINDS.get(kind, kind), whole_of(found, kind), whole_of(across, kind), whole_of(given, kind))
            for kind in across
        ],
        leaking=_pairs(proof, pictures or {}),
        leaking_as_given=_pairs(proof.get("as_given") or {}, pictures or {}),
        as_given=_as_given(proof),
        search=_search(left_out),
        complete=None if left_out is None else left_out == 0,
        same_split=digest == split_digest if digest and split_digest else None,
    )


def paths_to_show(proof: Record) -> set[str]:
    """Of the images of those pairs that the page shows."""
    shown = (*_shown(proof), *_shown(proof.get("as_given") or {}))
    return {path for _, left, right in shown for path in (left, right)}


def _shown(leaks: Record) -> list[tuple[str, str, str]]:
    """Kind and both paths of the first pairs of each kind."""
    return [
        (_KINDS.get(kind, kind), str(left), str(right))
        for kind, pairs in (leaks.get("leaking") or {}).items()
        for left, right in pairs[:_SHOWN_OF_A_KIND]
    ]


def _pairs(leaks: Record, pictures: Mapping[str, Picture]) -> list[LeakPair]:
    return [
        LeakPair(kind, left, right, [pictures[left], pictures[right]] if {left, right} <= set(pictures) else ())
        for kind, left, right in _shown(leaks)
    ]


def _as_given(proof: Record) -> str:
    given = proof.get("as_given")
    if not given:
        return ""
    torn, left = (sum(one.get("pairs_across_parts", {}).values()) for one in (given, proof))
    if not torn:
        return "The parts that the author gave were free of such pairs."
    moved = len(proof.get("moved_from_given_part") or [])
    rest = "none of these pairs is left" if not left else f"{left:,} {'pair is' if left == 1 else 'pairs are'} left"
    return (
        f"{torn:,} pairs stood on two sides of the parts that the author gave. The split that was trained on departs "
        f"from these parts for {moved:,} images, and {rest}."
    )


def _search(left_out: int | None) -> str:
    if left_out is None:
        return "Whether every pair was looked for is unknown."
    if left_out:
        return (
            f"The search for nearly equal pictures was not complete: {left_out:,} comparisons were left out, because "
            "so many pictures look alike to it. Some pairs may have been missed."
        )
    return "The search was complete: no comparison was left out."
