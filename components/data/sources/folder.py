"""A folder a class, below the author's own train, val and test folders where all that hold images are called so."""

from collections.abc import Mapping

from components.data.sources.locations import Listing, Place, refuse_unfollowed, wrong_ending
from components.data.sources.source import Source, SourceImage
from components.shared.errors import DataError


def from_folder(place: Place, listing: Listing, part_of: Mapping[str, str]) -> Source:
    """`listing` is that of the place; `part_of` says which part a folder's name means.

    Raises DataError where parts and other folders with images stand side by side, or a link where one of them may be.
    """
    with_parts = _are_parts(place.name, listing.paths, part_of)
    class_depth = 2 if with_parts else 1
    images, left_aside = [], []
    for path in listing.paths:
        steps = path.split("/")
        given = part_of.get(steps[0].lower()) if with_parts else None
        read, problem = place.reader(path), place.problem_of(path)
        if len(steps) > class_depth and (given or not with_parts):
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


def _are_parts(place: str, paths: list[str], part_of: Mapping[str, str]) -> bool:
    """Whether the top folders that hold images are the author's parts; what holds none, such as notes, says nothing."""
    holding = {path.partition("/")[0] for path in paths if "/" in path and wrong_ending(path) is None}
    named = sorted(top for top in holding if top.lower() in part_of)
    others = sorted(holding.difference(named))
    if others and len({part_of[top.lower()] for top in named}) > 1:
        raise DataError(
            f"{place}: has the parts {' and '.join(named)} beside other folders with images ({', '.join(others[:3])}); "
            "move those into the parts or out of the folder, or list the images in a table"
        )
    return bool(named) and not others
