"""A folder per class, below folders train, val and test if all top folders with images are called so."""

from collections.abc import Mapping
from functools import partial

from components.data.files.folders import FileListing, Folder, is_image, refuse_unfollowed_link, wrong_extension
from components.data.sources.source import Source, SourceImage
from components.shared.errors import DataError


def from_folder(folder: Folder, listing: FileListing, split_of: Mapping[str, str]) -> Source:
    """`listing` is that of the folder; `split_of` maps a folder's name to its split.

    Raises DataError if splits and other folders with images stand side by side, or a link where one of them may be.
    """
    has_splits = _has_splits(folder.name, listing.paths, split_of)
    class_depth = 2 if has_splits else 1
    images, ignored = [], []
    for path in listing.paths:
        steps = path.split("/")
        split = split_of.get(steps[0].lower()) if has_splits else None
        read, problem = partial(folder.read, path), folder.problem_of(path)
        if len(steps) > class_depth and (split or not has_splits):
            label = steps[class_depth - 1]
            images.append(SourceImage(path, (label,), read, given_split=split, problem=problem))
            continue
        if (other_type := wrong_extension(path)) is not None:
            refuse_unfollowed_link(folder, path)
        if other_type is None or problem != other_type:
            images.append(SourceImage(path, (), read, given_split=split, problem=problem or "in no class folder"))
        else:
            ignored.append(path)
    return Source(images, ignored=ignored, num_hidden=listing.num_hidden)


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
