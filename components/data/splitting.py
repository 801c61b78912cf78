"""Train, validation and test parts that share no picture: whole clusters of duplicates and groups are dealt out.

Clusters come in an order drawn from the seed and their content, rare classes and large clusters first, and each goes
to the part that lacks most of its labels: iterative stratification (Sechidis et al. 2011) over clusters.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from components.data.duplicates import DuplicateSettings
from components.data.parts import PARTS, Part
from components.errors import DataError
from components.settings import Settings


class SplitSettings(Settings):
    """params.yaml: split."""

    fractions: dict[Part, float]
    """Share of the images in each part; they sum to 1."""
    seed: int = Field(ge=0)
    """Another seed deals another split."""
    given: Literal["repair", "ignore"]
    """repair: keep the author's parts but bring each cluster to one side; ignore: deal everything anew."""
    duplicates: DuplicateSettings

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        missing = [part for part in PARTS if self.fractions.get(part, 0) <= 0]
        if missing:
            raise ValueError(f"every part above 0; {', '.join(missing)} has none")
        if abs(sum(self.fractions.values()) - 1) > 1e-6:
            raise ValueError(f"fractions that sum to 1, not {sum(self.fractions.values()):g}")
        return self


@dataclass(frozen=True)
class _Cluster:
    members: list[int]
    labels: Counter[str]
    given: Part | None
    rank: str


def assign_parts(
    *,
    sha256_N: Sequence[str],
    label_N: Sequence[str],
    given_N: Sequence[Part | None],
    cluster_N: NDArray[np.int64],
    settings: SplitSettings,
) -> list[str]:
    """The part of each image. Raises DataError naming a class that is too small for the parts."""
    given = given_N if settings.given == "repair" else [None] * len(sha256_N)
    clusters = _clusters(sha256_N, label_N, given, cluster_N, settings.seed)
    open_parts = _open_parts(clusters)
    free = [cluster for cluster in clusters if cluster.given is None or cluster.given in open_parts]
    totals = sum((cluster.labels for cluster in free), Counter[str]())
    needs = _needs(totals, {part: settings.fractions[part] for part in open_parts})
    part_N = [""] * len(sha256_N)
    for cluster in clusters:
        for member in cluster.members:
            part_N[member] = cluster.given or ""
    for cluster in sorted(free, key=lambda one: _turn(one, totals)):
        part = _neediest(cluster, needs)
        for label, count in cluster.labels.items():
            needs[part][label] -= count
        for member in cluster.members:
            part_N[member] = part
    _refuse_empty(label_N, part_N)
    return part_N


def split_digest(sha256_N: Sequence[str], label_N: Sequence[str], part_N: Sequence[str]) -> str:
    """SHA-256 over the sorted (image, label, part); it changes only where content does."""
    lines = sorted(f"{image}\t{label}\t{part}\n" for image, label, part in zip(sha256_N, label_N, part_N, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _clusters(
    sha256_N: Sequence[str],
    label_N: Sequence[str],
    given_N: Sequence[Part | None],
    cluster_N: NDArray[np.int64],
    seed: int,
) -> list[_Cluster]:
    members: defaultdict[int, list[int]] = defaultdict(list)
    for image, number in enumerate(cluster_N.tolist()):
        members[number].append(image)
    return [
        _Cluster(
            members=images,
            labels=Counter(label_N[image] for image in images),
            given=_majority([given_N[image] for image in images]),
            rank=hashlib.sha256(f"{seed} {min(sha256_N[image] for image in images)}".encode()).hexdigest(),
        )
        for images in members.values()
    ]


def _majority(given: Sequence[Part | None]) -> Part | None:
    """The part that holds most of a cluster, the training part where two hold as many."""
    counts = Counter(part for part in given if part is not None)
    ordered = sorted(counts, key=lambda part: (-counts[part], PARTS.index(part)))
    return ordered[0] if ordered else None


def _turn(cluster: _Cluster, totals: Counter[str]) -> tuple[int, int, str]:
    return min(totals[label] for label in cluster.labels), -len(cluster.members), cluster.rank


def _open_parts(clusters: list[_Cluster]) -> list[Part]:
    """The parts to deal into: all where the author gave none, else training and those that the author left out."""
    given = {cluster.given for cluster in clusters}
    return [part for part in PARTS if part == "train" or part not in given]


def _needs(totals: Counter[str], fractions: dict[Part, float]) -> dict[Part, dict[str, float]]:
    """How many images of each label each part lacks before the first is dealt."""
    whole = sum(fractions.values())
    return {
        part: {label: count * share / whole for label, count in totals.items()} for part, share in fractions.items()
    }


def _neediest(cluster: _Cluster, needs: dict[Part, dict[str, float]]) -> Part:
    return max(needs, key=lambda part: (sum(needs[part][label] for label in cluster.labels), -PARTS.index(part)))


def _refuse_empty(label_N: Sequence[str], part_N: Sequence[str]) -> None:
    present = set(zip(label_N, part_N, strict=True))
    for label in sorted(set(label_N)):
        for part in PARTS:
            if (label, part) not in present:
                raise DataError(
                    f"class {label} has no image left for the {part} part; add images of it or change split.fractions"
                )
