"""facts.json: what the split stage found in the images, as far as settings follow from it."""

from typing import ClassVar

from components.records.record import Record

FACTS = "facts.json"


class DataFacts(Record):
    """Numbers of images and classes, and what the images look like."""

    TITLE: ClassVar[str] = "record of the data's size"
    REMEDY: ClassVar[str] = "run `darkroom prepare`, which writes it again"

    train_images: int
    classes: int
    smallest_class: int
    """Training images of the rarest class."""
    largest_class: int
    """Training images of the commonest class."""
    side_px: int
    """Median of the images' longer sides."""
    coloured: bool
    """Whether most images have colours."""


TYPICAL = DataFacts(train_images=2000, classes=10, smallest_class=100, largest_class=300, side_px=640, coloured=True)
"""Photos, for checking settings before there are data."""
