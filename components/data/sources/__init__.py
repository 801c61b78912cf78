"""Where images come from: folders, tables, tar shards, torchvision's data sets, object stores, the embedded digits.

A source is listed before anything is read, so that mistakes are named before anything is written. Every file that
stands where an image belongs is listed; one that can't be taken carries the reason and goes to quarantine.
"""

from pathlib import Path

from components.data.sources.checks import refuse_useless
from components.data.sources.embedded import EMBEDDED_DIGITS, digits
from components.data.sources.folder import from_folder
from components.data.sources.places import LocalFolder, is_remote, remote_folder, split_remote
from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source, SourceImage
from components.data.sources.table import TABLE_ENDINGS, from_table, is_table
from components.errors import DataError

__all__ = ["EMBEDDED_DIGITS", "IngestSettings", "Source", "SourceImage", "find"]


def find(location: str, settings: IngestSettings | None = None) -> Source:
    """Lists what lies at the location; raises DataError where it makes no data set."""
    settings = settings or IngestSettings()
    source = _list(location, settings)
    refuse_useless(source, settings, location)
    return source


def _list(location: str, settings: IngestSettings) -> Source:
    path = Path(location).expanduser()
    if is_remote(location):
        return _list_remote(location, settings)
    if location == EMBEDDED_DIGITS and not path.exists():
        return digits()
    if not path.exists():
        raise DataError(f"{location}: no such folder or table; give --data an existing one")
    if path.is_dir():
        return from_folder(LocalFolder(path))
    if is_table(path.name):
        return from_table(LocalFolder(path.parent), path.name, settings)
    raise DataError(f"{location}: is neither a folder nor a table ({', '.join(TABLE_ENDINGS)})")


def _list_remote(location: str, settings: IngestSettings) -> Source:
    if is_table(location):
        return from_table(*split_remote(location), settings)
    return from_folder(remote_folder(location))
