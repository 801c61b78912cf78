"""Labelled images to ingest: folders, zip archives, tables, tar shards, torchvision's data sets, stores, the digits.

A source is listed before any image is read, so that mistakes are reported before anything is written. Every file that
stands where an image belongs is listed; one that can't be ingested carries the reason and goes to quarantine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from components.data.files.folders import Folder, LocalFolder, is_image, refuse_unfollowed_link
from components.data.files.object_stores import is_address, open_parent, open_store
from components.data.files.path_tables import TABLE_EXTENSIONS
from components.data.files.zip_folder import ZIP_EXTENSION, ZipFolder
from components.data.sources.alike_classes import resolve_alike_classes
from components.data.sources.digits import EMBEDDED_DIGITS, digits
from components.data.sources.folder import from_folder
from components.data.sources.left_out import NO_IMAGE
from components.data.sources.settings import IngestSettings
from components.data.sources.source import SPLITS_BY_NAME, Source, SourceImage
from components.data.sources.source_checks import check_source
from components.data.sources.table import check_table, from_table, is_table
from components.data.sources.tar_shards import are_shards, check_readable, expand_braces, from_shards, shards_among
from components.data.sources.torchvision import SCHEME, check_name, from_torchvision
from components.shared.errors import DataError

__all__ = ["EMBEDDED_DIGITS", "IngestSettings", "Source", "SourceImage", "check_location", "find"]


def find(
    location: str,
    settings: IngestSettings | None = None,
    *,
    extra_splits: Sequence[str] = (),
    uses_given_splits: bool = True,
) -> Source:
    """Lists the images at the location; raises DataError if they make no data set.

    `extra_splits` are the splits of split.fractions beside train, val and test. `uses_given_splits`: the data's own
    splits will be used, so that no group may stand in two of them.
    """
    settings = settings or IngestSettings()
    source = _list(location, settings, SPLITS_BY_NAME | {split: split for split in extra_splits})
    source = resolve_alike_classes(source, settings, location)
    check_source(source, settings, location, uses_given_splits=uses_given_splits)
    return source


def check_location(location: str, settings: IngestSettings | None = None) -> None:
    """Raises DataError for what can't be a data set, without reading more of it than a table of this machine."""
    path = Path(location).expanduser()
    if location.startswith(SCHEME):
        check_name(location)
    elif not (is_address(location) or location == EMBEDDED_DIGITS or path.is_dir()):
        _check_file(location, path)
        if is_table(path.name):
            check_table(LocalFolder(path.parent), path.name, settings or IngestSettings())


def _check_file(location: str, path: Path) -> None:
    if not path.exists() and "{" not in path.name:
        raise DataError(f"{location}: no such folder or table; give --data an existing one")
    if not is_table(path.name) and not are_shards(path.name) and not _is_zip(path.name):
        raise _unknown_type(location)


def _list(location: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    path = Path(location).expanduser()
    if location.startswith(SCHEME):
        return from_torchvision(location)
    if is_address(location):
        return _list_address(location, settings, split_of)
    if location == EMBEDDED_DIGITS and not path.exists():
        return digits()
    if path.is_dir():
        return _list_folder(LocalFolder(path, follow_links=settings.follow_links), settings, split_of)
    _check_file(location, path)
    if _is_zip(path.name):
        return _list_zip(ZipFolder(path), settings, split_of)
    folder = LocalFolder(path.parent, follow_links=settings.follow_links)
    source = _list_file(folder, path.name, settings, split_of)
    assert source is not None
    return source


def _list_address(address: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    parent, name = open_parent(address)
    if (source := _list_file(parent, name, settings, split_of)) is not None:
        return source
    source = _list_folder(open_store(address), settings, split_of)
    if not source.images and parent.type_of(name) == "file":
        raise _unknown_type(address)
    return source


def _unknown_type(location: str) -> DataError:
    return DataError(
        f"{location}: is neither a folder nor a table ({', '.join(TABLE_EXTENSIONS)}) nor a tar shard (.tar) nor a zip "
        "archive; save a table as CSV, unpack other archives, or give --data a folder"
    )


def _list_file(folder: Folder, name: str, settings: IngestSettings, split_of: Mapping[str, str]) -> Source | None:
    """None for a name that is neither of a table nor of shards."""
    if is_table(name):
        return from_table(folder, name, settings, split_of)
    return from_shards(folder, expand_braces(name), settings, split_of) if are_shards(name) else None


def _is_zip(name: str) -> bool:
    return name.lower().endswith(ZIP_EXTENSION)


def _list_zip(folder: ZipFolder, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    """By the table that lies alone in the archive's top folder, where there are no class folders; else by folders."""
    listing = folder.list_files()
    tables = [path for path in listing.paths if is_table(path) and "/" not in path]
    tops = {path.partition("/")[0] for path in listing.paths if "/" in path and is_image(path)}
    if len(tables) == 1 and len(tops) < 2:
        return from_table(folder, tables[0], settings, split_of)
    return from_folder(folder, listing, split_of)


def _list_folder(folder: Folder, settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    listing = folder.list_files()
    shards = shards_among(listing.paths)
    if not shards:
        return from_folder(folder, listing, split_of)
    others = sorted(set(listing.paths).difference(shards))
    for path in others:
        refuse_unfollowed_link(folder, path)
    for path in shards:
        check_readable(folder, path)
    source = from_shards(folder, shards, settings, split_of)
    return replace(source, left_out=dict.fromkeys(others, NO_IMAGE) | source.left_out, num_hidden=listing.num_hidden)
