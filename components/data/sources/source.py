"""The list of labelled images that every type of source becomes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from components.shared.plural import Sentence
from components.task.task import Task
from components.task.task_types import task_type

SPLITS_BY_NAME = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names that data sets give to their splits."""


@dataclass(frozen=True)
class SourceImage:
    path: str
    """Relative to the source, with forward slashes; unique in it."""
    labels: tuple[str, ...]
    """One label, a sorted set of labels, or a hierarchy's labels from the coarsest to the finest; empty only in
    multi-label data, where an image may have none."""
    read: Callable[[], bytes]
    group: str | None = None
    """Images of one group always go to the same split."""
    timestamp: str | None = None
    """ISO 8601 in UTC, so that texts sort by time."""
    weight: float | None = None
    """At least 0; None if the source gives none."""
    given_split: str | None = None
    """train, val, test or an extra split of split.fractions, if the source gives one."""
    further: str | None = None
    """The source's other columns as a JSON object, such as {"camera": "phone"}; scores are sliced by them."""
    problem: str | None = None
    """Why the file can't be ingested; it goes to quarantine unread."""


@dataclass(frozen=True)
class Source:
    images: list[SourceImage]
    task: str = "single_label"
    """Name of the label type."""
    levels: tuple[str, ...] = ()
    """Names of a hierarchy's levels, from the coarsest to the finest."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The kind of each file that is no labelled image, by path: a licence, a caption in a shard, an image without a
    class. They are counted for the user and never go to quarantine."""
    notes: list[Sentence] = field(default_factory=list)
    """What looks as if it was meant otherwise; each is a warning."""
    hint: Sentence = ""
    """Clause on where the labels may be, for messages about a source without usable classes."""
    num_hidden: int = 0
    """Hidden files and folders, which are not listed."""

    @property
    def task_type(self) -> type[Task]:
        return task_type(self.task)

    def label_of(self, image: SourceImage) -> str:
        """All labels of the image as one text: `cat`, `cat|dog` for several, `Fruit/Apple/Gala` for a hierarchy."""
        return self.task_type.text_of(image.labels)
