"""The proof that no picture stands on two sides of the split: a file that the promotion gate reads."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.duplicates import DuplicatePairs, Pairs
from components.data.splitting import SplitSettings, split_digest

_NAMED_PAIRS = 1000


def audit(
    *,
    path_N: Sequence[str],
    sha256_N: Sequence[str],
    label_N: Sequence[str],
    group_N: Sequence[str | None],
    given_N: Sequence[str | None],
    part_N: Sequence[str],
    cluster_N: NDArray[np.int64],
    pairs: DuplicatePairs,
    settings: SplitSettings,
) -> dict[str, Any]:
    """The leak proof as a JSON-like record: pairs across parts by kind, the digest and the settings."""
    part = np.array(part_N)
    kinds = {"exact": pairs.exact, "near": pairs.near, "group": group_links(group_N)}
    crossing = {kind: found[part[found[:, 0]] != part[found[:, 1]]] for kind, found in kinds.items()}
    moved = [path for path, given, now in zip(path_N, given_N, part_N, strict=True) if given not in (None, now)]
    return {
        "digest": split_digest(sha256_N, label_N, part_N),
        "images": dict(sorted(Counter(part_N).items())),
        "clusters": int(cluster_N.max()) + 1 if len(cluster_N) else 0,
        "pairs": {kind: len(found) for kind, found in kinds.items()},
        "pairs_across_parts": {kind: len(found) for kind, found in crossing.items()},
        "leaking": {kind: _named(found, path_N) for kind, found in crossing.items()},
        "moved_from_given_part": moved,
        "settings": settings.model_dump(),
    }


def group_links(group_N: Sequence[str | None]) -> Pairs:
    """Each image of a group with the group's first image."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for image, group in enumerate(group_N):
        if group is not None:
            members[group].append(image)
    links = [(images[0], other) for images in members.values() for other in images[1:]]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def _named(pairs: Pairs, path_N: Sequence[str]) -> list[list[str]]:
    return [[path_N[left], path_N[right]] for left, right in pairs[:_NAMED_PAIRS]]
