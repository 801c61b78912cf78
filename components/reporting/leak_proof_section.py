"""Report section on the leak proof: pairs across splits, before and after Darkroom's split, with pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.records.leak_proof import LeakProof, SplitLeaks
from components.reporting.inline_pictures import Picture

_NAMES = {
    "exact": "identical files",
    "near": "near duplicates",
    "group": "same group",
    "embedding": "similar embeddings",
}
_SHOWN_PER_TYPE = 8


@dataclass(frozen=True)
class LeakLine:
    """Pairs of one type."""

    name: str
    pairs: int
    across: int
    """Across the splits that the model was trained on."""
    given: int | None = None
    """Across the splits that the author gave; None where the author's splits were used or there were none."""


@dataclass(frozen=True)
class LeakingPair:
    """Two images of one picture, or of one group, in two splits."""

    name: str
    left: str
    right: str
    pictures: Sequence[Picture] = ()
    """Both images, or none where the raw data no longer holds them."""


@dataclass(frozen=True)
class LeakProofSection:
    lines: Sequence[LeakLine]
    leaking: Sequence[LeakingPair] = ()
    """The first pairs across the splits."""
    leaking_as_given: Sequence[LeakingPair] = ()
    """The first pairs across the author's own splits."""
    as_given: str = ""
    """What became of the author's own splits, in a sentence; empty where there was nothing to fix."""
    search: str = ""
    """Whether the search for pairs was complete, in a sentence."""
    complete: bool = True
    same_split: bool = True
    """Whether the proof was made for the split that the model was trained on."""
    most_shown: int = _SHOWN_PER_TYPE
    """Pairs shown of each type, at most."""

    @property
    def repaired(self) -> bool:
        """Whether the split departs from the splits that the author gave."""
        return any(line.given is not None for line in self.lines)


def leak_proof_section(
    proof: LeakProof, split_digest: str, pictures: Mapping[str, Picture] | None = None
) -> LeakProofSection:
    """`pictures` by path, for as many of `paths_to_show` as the raw data still holds."""
    given = proof.leaks_as_given
    return LeakProofSection(
        lines=[
            LeakLine(_NAMES[key], proof.pairs[key], across, given.pairs_across_splits[key] if given else None)
            for key, across in proof.leaks.pairs_across_splits.items()
        ],
        leaking=_pairs(proof.leaks, pictures or {}),
        leaking_as_given=_pairs(given, pictures or {}),
        as_given=_fate_of_given_splits(proof),
        search=_completeness(proof.comparisons_left_out),
        complete=proof.comparisons_left_out == 0,
        same_split=proof.split_digest == split_digest,
    )


def paths_to_show(proof: LeakProof) -> set[str]:
    """Paths of the images in the pairs that the page shows."""
    shown = (*_shown(proof.leaks), *_shown(proof.leaks_as_given))
    return {path for _, left, right in shown for path in (left, right)}


def _shown(leaks: SplitLeaks | None) -> list[tuple[str, str, str]]:
    """Name of the type and both paths, for the first pairs of each type."""
    return [
        (_NAMES[key], left, right)
        for key, pairs in (leaks.leaking if leaks else {}).items()
        for left, right in pairs[:_SHOWN_PER_TYPE]
    ]


def _pairs(leaks: SplitLeaks | None, pictures: Mapping[str, Picture]) -> list[LeakingPair]:
    return [
        LeakingPair(name, left, right, [pictures[left], pictures[right]] if {left, right} <= set(pictures) else ())
        for name, left, right in _shown(leaks)
    ]


def _fate_of_given_splits(proof: LeakProof) -> str:
    if proof.leaks_as_given is None:
        return ""
    before, after = proof.leaks_as_given.num_across, proof.leaks.num_across
    if not before:
        return "The splits that the author gave have no such pairs."
    moved = len(proof.moved_from_given_split)
    rest = "no such pair is left" if not after else f"{after:,} {'pair is' if after == 1 else 'pairs are'} left"
    return (
        f"The splits that the author gave have {before:,} pairs across them. Darkroom moved {moved:,} images to "
        f"another split before training, and {rest}."
    )


def _completeness(left_out: int) -> str:
    if left_out:
        return (
            f"The search for near duplicates was not complete: it skipped {left_out:,} comparisons, because too many "
            "images look alike to it. Some pairs may be missing."
        )
    return "The search was complete: no comparison was skipped."
