"""Where images come from: folders, tables, tar shards, torchvision's data sets, object stores, the embedded digits.

A source is listed before anything is read, so that mistakes are named before anything is written. Every file that
stands where an image belongs is listed; one that can't be taken carries the reason and goes to quarantine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from components.data.sources.digits import EMBEDDED_DIGITS, digits
from components.data.sources.folder import from_folder
from components.data.sources.locations import (
    LocalFolder,
    Place,
    is_remote,
    refuse_unfollowed,
    refuse_untaken,
    remote_folder,
    split_remote,
)
from components.data.sources.settings import IngestSettings
from components.data.sources.source import SPLITS_BY_NAME, Source, SourceImage
from components.data.sources.source_checks import refuse_useless
from components.data.sources.table import TABLE_ENDINGS, from_table, is_table
from components.data.sources.tar_shards import are_shards, expand_braces, from_shards, shards_among
from components.data.sources.torchvision import SCHEME, check_name, from_torchvision
from components.shared.errors import DataError

__all__ = ["EMBEDDED_DIGITS", "IngestSettings", "Source", "SourceImage", "check_location", "find"]


def find(
    location: str,
    settings: IngestSettings | None = None,
    *,
    further_splits: Sequence[str] = (),
    given_counts: bool = True,
) -> Source:
    """Lists what lies at the location; raises DataError where it makes no data set.

    `further_splits` are those of split.fractions beside train, val and test. `given_counts`: the author's splits are
    heeded, so that groups must not contradict them.
    """
    settings = settings or IngestSettings()
    source = _list(location, settings, SPLITS_BY_NAME | {split: split for split in further_splits})
    refuse_useless(source, settings, location, given_counts=given_counts)
    return source


def check_location(location: str) -> None:
    """Raises DataError for what surely is no data set, without reading anything of it."""
    path = Path(location).expanduser()
    if location.startswith(SCHEME):
        check_name(location)
    elif not (is_remote(location) or location == EMBEDDED_DIGITS or path.is_dir()):
        _check_file(location, path)


def _check_file(location: str, path: Path) -> None:
    if not path.exists() and "{" not in path.name:
        raise DataError(f"{location}: no such folder or table; give --data an existing one")
    if not is_table(path.name) and not are_shards(path.name):
        raise _of_no_kind(location)


def _list(location: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    path = Path(location).expanduser()
    if location.startswith(SCHEME):
        return from_torchvision(location)
    if is_remote(location):
        return _list_remote(location, settings, split_of)
    if location == EMBEDDED_DIGITS and not path.exists():
        return digits()
    if path.is_dir():
        return _list_folder(LocalFolder(path), settings, split_of)
    _check_file(location, path)
    found = _list_file(LocalFolder(path.parent), path.name, settings, split_of)
    assert found is not None
    return found


def _list_remote(location: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    above, name = split_remote(location)
    if (found := _list_file(above, name, settings, split_of)) is not None:
        return found
    listed = _list_folder(remote_folder(location), settings, split_of)
    if not listed.images and above.kind(name) == "file":
        raise _of_no_kind(location)
    return listed


def _of_no_kind(location: str) -> DataError:
    return DataError(
        f"{location}: is neither a folder nor a table ({', '.join(TABLE_ENDINGS)}) nor a tar shard (.tar); "
        "save a table as CSV, unpack an archive, or give --data a folder"
    )


def _list_file(place: Place, name: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source | None:
    """None for a name that is neither of a table nor of shards."""
    if is_table(name):
        return from_table(place, name, settings, split_of)
    return from_shards(place, expand_braces(name), settings, split_of) if are_shards(name) else None


def _list_folder(place: Place, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    listing = place.files()
    shards = shards_among(listing.paths)
    if not shards:
        return from_folder(place, listing, split_of)
    others = sorted(set(listing.paths).difference(shards))
    for path in others:
        refuse_unfollowed(place, path)
    for path in shards:
        refuse_untaken(place, path)
    source = from_shards(place, shards, settings, split_of)
    return replace(source, left_aside=others + source.left_aside, num_hidden=listing.num_hidden)
