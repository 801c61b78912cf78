"""How the labels of one image are written as one text: a path with `/`, a set of labels with `|`."""

from collections.abc import Sequence

PATH_SEPARATOR = "/"
SET_SEPARATOR = "|"


def counted_names(label: str, labels: Sequence[str]) -> list[str]:
    """The classes that an image with this label text counts for: each label of a set, else the text itself."""
    return list(labels) if SET_SEPARATOR.join(labels) == label else [label]
