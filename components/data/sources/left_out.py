"""Files of a source that are no labelled image: their kinds, and sentences that count each kind for the user."""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from components.shared.plural import Sentence, counted

IN_NO_CLASS = "in no class folder"
NO_IMAGE = "no image by the name"
NOT_NAMED = "an image that the table doesn't name"
_CLUTTER = ("thumbs.db", "desktop.ini")
"""Files that systems leave in folders of images, named as such; others are counted by their endings."""
_SHOWN = 3


def left_out_sentences(left_out: Mapping[str, str]) -> dict[str, Sentence]:
    """A sentence for each kind of file, such as `3 files left out, no image by the name: 2 .txt, 1 Thumbs.db`."""
    return {
        kind: _sentence(kind, [path for path, own in left_out.items() if own == kind])
        for kind in dict.fromkeys(left_out.values())
    }


def _sentence(kind: str, paths: list[str]) -> Sentence:
    start = f"{counted(len(paths), 'file')} left out, {kind}"
    groups = Counter(map(_name_of if kind == NO_IMAGE else _folder_of, paths)).most_common()
    shown = ", ".join(f"{count} {name}" for name, count in groups[:_SHOWN])
    more = f", and {len(groups) - _SHOWN} more kinds" if len(groups) > _SHOWN and kind == NO_IMAGE else ""
    return f"{start}: {shown}{more} (such as {paths[0]})"


def _name_of(path: str) -> str:
    file = PurePosixPath(path)
    return file.name if file.name.lower() in _CLUTTER else file.suffix.lower() or "without an ending"


def _folder_of(path: str) -> str:
    folder = path.rpartition("/")[0].partition("/")[0]
    return f"in {folder}" if folder else "at the top"
