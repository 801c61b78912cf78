"""A folder a class, below the author's own train, val and test folders where all that hold images are called so."""

from collections.abc import Mapping

from components.data.sources.locations import Listing, Place, refuse_unfollowed, wrong_ending
from components.data.sources.source import Source, SourceImage
from components.shared.errors import DataError


def from_folder(place: Place, listing: Listing, split_of: Mapping[str, str]) -> Source:
    """`listing` is that of the place; `split_of` says which split a folder's name means.

    Raises DataError where splits and other folders with images stand side by side, or a link where one of them may be.
    """
    with_splits = _are_splits(place.name, listing.paths, split_of)
    class_depth = 2 if with_splits else 1
    images, left_aside = [], []
    for path in listing.paths:
        steps = path.split("/")
        given = split_of.get(steps[0].lower()) if with_splits else None
        read, problem = place.reader(path), place.problem_of(path)
        if len(steps) > class_depth and (given or not with_splits):
            label = steps[class_depth - 1]
            images.append(SourceImage(path, (label,), read, given_split=given, problem=problem))
            continue
        if (ending := wrong_ending(path)) is not None:
            refuse_unfollowed(place, path)
        if problem != ending or ending is None:
            images.append(SourceImage(path, (), read, given_split=given, problem=problem or "in no class folder"))
        else:
            left_aside.append(path)
    return Source(images, left_aside=left_aside, num_hidden=listing.num_hidden)


def _are_splits(place: str, paths: list[str], split_of: Mapping[str, str]) -> bool:
    """Whether the top folders that hold images are the author's splits; others, such as notes, don't count."""
    holding = {path.partition("/")[0] for path in paths if "/" in path and wrong_ending(path) is None}
    named = sorted(top for top in holding if top.lower() in split_of)
    others = sorted(holding.difference(named))
    if others and len({split_of[top.lower()] for top in named}) > 1:
        raise DataError(
            f"{place}: has the splits {' and '.join(named)} beside other folders of images ({', '.join(others[:3])}); "
            "move those into the splits or out of the folder, or list the images in a table"
        )
    return bool(named) and not others
