"""What every kind of source is listed as."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["single", "multi", "hierarchy"]

SPLITS_BY_NAME = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The split that each usual folder or column value means."""

LEVEL_JOINT = "/"
SET_JOINT = "|"


@dataclass(frozen=True)
class SourceImage:
    path: str
    """Relative to the source, with forward slashes; unique in it."""
    labels: tuple[str, ...]
    """One label; or a sorted set of labels; or a hierarchy's labels, from the coarsest to the finest; none where the
    file stands in no class folder."""
    read: Callable[[], bytes]
    group: str | None = None
    """Images of one group never stand in two splits."""
    timestamp: str | None = None
    """ISO 8601 in UTC, so that the order of the texts is the order in time."""
    weight: float | None = None
    """At least 0; null where the source says nothing."""
    given_split: str | None = None
    """train, val, test or a further split of split.fractions, where the author of the data has chosen."""
    further: str | None = None
    """What else the source says, as a JSON object by column, such as {"camera": "phone"}; scores are sliced by it."""
    problem: str | None = None
    """Why the file can't be taken; it is quarantined unread."""


@dataclass(frozen=True)
class Source:
    images: list[SourceImage]
    kind: Kind = "single"
    levels: tuple[str, ...] = ()
    """Names of a hierarchy's levels, from the coarsest to the finest."""
    left_aside: list[str] = field(default_factory=list)
    """Files that hold no image of a class: a licence beside the class folders, a caption in a shard."""
    num_hidden: int = 0
    """Hidden files and folders, which are left out."""

    def label_of(self, image: SourceImage) -> str:
        """The text key of all the image's labels: `cat`, `cat|dog` for a set, `Fruit/Apple/Gala` for a hierarchy."""
        return (LEVEL_JOINT if self.kind == "hierarchy" else SET_JOINT).join(image.labels)
