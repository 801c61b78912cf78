"""tar shards in WebDataset's layout: the files of one sample share their name up to the first dot.

    0001.jpg   the image
    0001.cls   its label, as text or a number
    0001.json  or a record with the fields that a row of a table may have: label, labels, group, timestamp …

Shards are read where they are, without unpacking. Source: the WebDataset project's description of its format.
"""

import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from components.data.images.decoding import IMAGE_ENDINGS
from components.data.sources.label_columns import describe, label_columns
from components.data.sources.locations import Place, wrong_ending
from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source, SourceImage
from components.data.sources.table import json_object, path_inside
from components.shared.errors import DataError

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_END_BYTES = 2 * tarfile.BLOCKSIZE
"""Of zeros, which every whole tar ends with. Source: POSIX.1, pax, ustar interchange format."""
_LONGEST_END_BYTES = _END_BYTES + tarfile.RECORDSIZE
"""The end is filled up to a whole record; longer runs of zeros are what a copy leaves that stopped half-way."""


@dataclass
class _Sample:
    key: str
    """Its name in the shard, up to the first dot."""
    image: tarfile.TarInfo | None = None
    others: list[str] = field(default_factory=list)
    """Files that are neither image nor label."""
    row: dict[str, Any] = field(default_factory=dict)


def are_shards(name: str) -> bool:
    return name.endswith(".tar")


def shards_among(paths: list[str]) -> list[str]:
    """The shards of a folder that holds them, also below train and test; none where it holds images."""
    if any(PurePosixPath(path).suffix.lower() in IMAGE_ENDINGS for path in paths):
        return []
    return [path for path in paths if are_shards(path)]


def expand_braces(pattern: str) -> list[str]:
    """`a-{00..02}.tar` and `{a,b}.tar` as the names that they stand for."""
    pieces = _BRACES.split(pattern)
    return ["".join(pieces_of_name) for pieces_of_name in product(*map(_choices, pieces, range(len(pieces))))]


def from_shards(place: Place, names: list[str], settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    """`split_of` says which split a name in a record's field `split`, or in the shard's own path, means."""
    samples = [(name, sample) for name in names for sample in _samples_of(place, name)]
    labelled = [(name, sample) for name, sample in samples if sample.row]
    known = list(dict.fromkeys(key for _, sample in labelled for key in sample.row))
    if not known:
        raise DataError(f"{place.name}: no sample has a .cls or .json file beside its image; add them to the shards")
    columns = label_columns(known, settings, source=place.name)
    splits = _splits_of(names, split_of)
    images, left_aside = [], []
    for name, sample in samples:
        where = f"{name}: {sample.key}"
        if not sample.row:
            if sample.image is not None:
                raise DataError(f"{where}: has no .cls or .json file with its label; add one or remove the image")
            left_aside += [f"{name}/{other}" for other in sample.others]
            continue
        # Without an image, the first of the others stands in its place, and is quarantined.
        rest = sample.others if sample.image else sample.others[1:]
        left_aside += [f"{name}/{other}" for other in rest]
        said = vars(describe(sample.row, columns, settings, split_of, place=where))
        said["given_split"] = said["given_split"] or splits.get(name)
        images.append(_image(place, name, sample, said))
    return Source(images, columns.kind, columns.levels, left_aside)


def _image(place: Place, shard: str, sample: _Sample, said: dict[str, Any]) -> SourceImage:
    folder = shard.removesuffix(".tar")
    if sample.image is None:
        other = sample.others[0] if sample.others else ""
        problem = wrong_ending(other) if other else "the sample has no image"
        return SourceImage(path=f"{folder}/{other or sample.key}", read=bytes, problem=problem, **said)
    member = sample.image
    return SourceImage(
        path=f"{folder}/{PurePosixPath(member.name).as_posix()}",
        read=partial(place.read_range, shard, member.offset_data, member.size),
        problem=None if member.isreg() and not member.issparse() else "not a plain file",
        **said,
    )


def _samples_of(place: Place, shard: str) -> Iterator[_Sample]:
    """In order of the shard."""
    samples: dict[str, _Sample] = {}
    last = ""
    try:
        with place.open(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                last = member.name
                if member.isdir():
                    continue
                name = path_inside(member.name, shard, "the shard")
                folder, _, file = name.rpartition("/")
                stem, _, ending = file.partition(".")
                if not stem:  # hidden, such as the resource forks of macOS
                    samples[name] = _Sample(name, others=[name])
                    continue
                key = f"{folder}/{stem}" if folder else stem
                _put(samples.setdefault(key, _Sample(key)), name, ending.lower(), member, tar, f"{shard}: {name}")
            _refuse_damaged(stream, tar.offset)
    except FileNotFoundError:
        raise DataError(f"{shard}: no such shard in {place.name}; name existing ones") from None
    except OSError as problem:
        raise DataError(f"{shard}: can't be read: {problem.strerror or problem}; name a file that can") from None
    except (tarfile.TarError, EOFError) as problem:
        if last:
            raise DataError(
                f"{shard}: ends early or is damaged behind {last}; copy it again, or pack it anew"
            ) from None
        raise DataError(
            f"{shard}: can't be read as an uncompressed tar ({problem}); pack it anew without compression"
        ) from None
    yield from samples.values()


def _refuse_damaged(stream: BinaryIO, end: int) -> None:
    """Raises ReadError unless the tar ends at byte `end`: the reader takes any header that it can't read for the end.

    Zeros that a broken copy left within the last record look like a whole tar, and can't be told from one.
    """
    size_bytes = stream.seek(0, os.SEEK_END)
    if not _END_BYTES <= size_bytes - end <= _LONGEST_END_BYTES:
        raise tarfile.ReadError("no end, or one that is too long")
    stream.seek(end)
    if any(stream.read()):
        raise tarfile.ReadError("more behind the end")


def _put(sample: _Sample, name: str, ending: str, member: tarfile.TarInfo, tar: tarfile.TarFile, where: str) -> None:
    if ending in ("cls", "json"):
        for key, value in _fields(ending, member, tar, where).items():
            if str(sample.row.setdefault(key, value)) != str(value):
                raise DataError(f"{where}: says {key} {value!r}, the sample's other file {sample.row[key]!r}; keep one")
    elif f".{ending.rpartition('.')[2]}" in IMAGE_ENDINGS:
        if sample.image is not None:
            raise DataError(f"{where}: the sample has another image, {sample.image.name}; give each its own name")
        sample.image = member
    else:
        sample.others.append(name)


def _fields(ending: str, member: tarfile.TarInfo, tar: tarfile.TarFile, where: str) -> dict[str, Any]:
    stream = tar.extractfile(member) if member.isreg() else None
    if stream is None:
        raise DataError(f"{where}: is not a plain file; pack the label itself")
    try:
        text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where}: is not UTF-8 text; save it as such") from None
    return {"label": text.strip()} if ending == "cls" else json_object(text, where)


def _splits_of(names: list[str], split_of: Mapping[str, str]) -> dict[str, str]:
    """The author's split of each shard, where all their paths say one: flowers-train-000.tar, or train/000.tar."""
    found = {}
    for name in names:
        words = re.split(r"[-_./]", name.lower())
        splits = {split_of[word] for word in words if word in split_of}
        if len(splits) != 1:
            return {}
        found[name] = splits.pop()
    return found


def _choices(piece: str, place: int) -> list[str]:
    if place % 2 == 0:  # text between the braces
        return [piece]
    if (numbers := _RANGE.fullmatch(piece)) is None:
        return piece.split(",")
    first, last = numbers.groups()
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
