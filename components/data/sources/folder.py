"""A folder per class, below folders train, val and test if all top folders with images are called so."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial

from components.data.files.folders import LEADS_OUT, FileListing, Folder, is_image, refuse_unfollowed_link
from components.data.files.path_tables import TABLE_EXTENSIONS
from components.data.sources.left_out import IN_NO_CLASS, NO_IMAGE
from components.data.sources.source import Source, SourceImage
from components.shared.errors import DataError
from components.shared.plural import Sentence

_SHOWN = 3


def from_folder(folder: Folder, listing: FileListing, split_of: Mapping[str, str]) -> Source:
    """`listing` is that of the folder; `split_of` maps a folder's name to its split.

    Raises DataError if splits and other folders with images stand side by side, or a link where one of them may be.
    """
    has_splits = _has_splits(folder.name, listing.paths, split_of)
    class_depth = 2 if has_splits else 1
    images, left_out = [], {}
    for path in listing.paths:
        steps = path.split("/")
        split = split_of.get(steps[0].lower()) if has_splits else None
        in_class = len(steps) > class_depth and bool(split or not has_splits)
        if not in_class and not is_image(path):
            refuse_unfollowed_link(folder, path)
        problem = folder.problem_of(path)
        # A link that leads out of a class may be one to a folder of its images, whatever its name.
        if in_class and (is_image(path) or problem == LEADS_OUT):
            label, read = steps[class_depth - 1], partial(folder.read, path)
            images.append(SourceImage(path, (label,), read, given_split=split, problem=problem))
        else:
            left_out[path] = problem or (IN_NO_CLASS if is_image(path) else NO_IMAGE)
    deeper = _folders_below(images, class_depth)
    notes = [*_merged(deeper), *([] if has_splits else _classes_like_splits(images, split_of))]
    return Source(
        images, left_out=left_out, num_hidden=listing.num_hidden, notes=notes, hint=_hint(folder, left_out, deeper)
    )


def _has_splits(folder: str, paths: list[str], split_of: Mapping[str, str]) -> bool:
    """Whether the top folders with images are splits; folders without images, such as notes, don't matter."""
    with_images = {path.partition("/")[0] for path in paths if "/" in path and is_image(path)}
    splits = sorted(top for top in with_images if top.lower() in split_of)
    others = sorted(with_images.difference(splits))
    if others and len({split_of[top.lower()] for top in splits}) > 1:
        raise DataError(
            f"{folder}: has the splits {' and '.join(splits)} beside other folders with images "
            f"({', '.join(others[:3])}); move those into the splits or out of the folder, or list the images in a table"
        )
    return bool(splits) and not others


def _folders_below(images: list[SourceImage], class_depth: int) -> dict[str, list[str]]:
    """Names of the folders with images below each class folder that has several; of a single class, all of them."""
    below: defaultdict[str, set[str]] = defaultdict(set)
    for image in images:
        steps = image.path.split("/")
        below["/".join(steps[:class_depth])].update(steps[class_depth:-1][:1])
    return {top: sorted(names) for top, names in below.items() if len(names) > 1 or (names and len(below) == 1)}


def _merged(deeper: Mapping[str, list[str]]) -> list[Sentence]:
    if not deeper:
        return []
    shown = "; ".join(f"{top} ({_first(names)})" for top, names in list(deeper.items())[:_SHOWN])
    more = f"; and {len(deeper) - _SHOWN} more" if len(deeper) > _SHOWN else ""
    return [
        f"folders below a class folder don't count as classes or splits; their images belong to the class: {shown}"
        f"{more}; where they are the classes, move them up, give --data one folder, or list the images in a table"
    ]


def _classes_like_splits(images: Iterable[SourceImage], split_of: Mapping[str, str]) -> list[Sentence]:
    classes = sorted({label for image in images for label in image.labels})
    like_splits = [name for name in classes if name.lower() in split_of]
    return [
        f"the folder {name} counts as a class, for other folders with images stand beside it; "
        "move it out of the data folder if it is none"
        for name in like_splits
    ]


def _hint(folder: Folder, left_out: Mapping[str, str], deeper: Mapping[str, list[str]]) -> Sentence:
    """Where the labels may be: in a table beside the images, or in the folders below the only class."""
    tables = [path for path in left_out if path.lower().endswith(TABLE_EXTENSIONS)]
    hints = [f"if {tables[0]} lists the labels, give --data {folder.name}/{tables[0]}"] if tables else []
    hints += [
        f"if {_first(names)} are the classes or splits, give --data {folder.name}/{top}"
        for top, names in deeper.items()
    ]
    return "; ".join(hints[:2])


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
