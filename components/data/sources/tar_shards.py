"""Tar shards in WebDataset's layout: the files of one sample share their name up to the first dot.

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

from components.data.files.folders import Folder, is_image
from components.data.sources.column_choice import label_columns, renamed
from components.data.sources.label_columns import read_row
from components.data.sources.left_out import NO_IMAGE
from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source, SourceImage
from components.data.sources.table import json_object, path_inside
from components.shared.errors import DataError

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MIN_END_BYTES = 2 * tarfile.BLOCKSIZE
"""Zeros at the end of every complete tar. Source: POSIX.1, pax, ustar interchange format."""
_MAX_END_BYTES = _MIN_END_BYTES + tarfile.RECORDSIZE
"""The end is padded to a whole record; a copy that stopped half-way leaves longer runs of zeros."""


@dataclass
class _Sample:
    key: str
    """Its name in the shard, up to the first dot."""
    image: tarfile.TarInfo | None = None
    others: list[str] = field(default_factory=list)
    """Names of files that are neither image nor label."""
    row: dict[str, Any] = field(default_factory=dict)


def are_shards(name: str) -> bool:
    return name.endswith(".tar")


def shards_among(paths: list[str]) -> list[str]:
    """The shards in a folder and below train and test; none if it holds images too."""
    if any(map(is_image, paths)):
        return []
    return [path for path in paths if are_shards(path)]


def expand_braces(pattern: str) -> list[str]:
    """Names of the shards that a pattern such as `a-{00..02}.tar` or `{a,b}.tar` stands for."""
    pieces = _BRACES.split(pattern)
    return ["".join(choice) for choice in product(*map(_choices, pieces, range(len(pieces))))]


def check_readable(folder: Folder, shard: str) -> None:
    """Raises DataError for a shard that can't be read, or that leads out of the folder."""
    if (problem := folder.problem_of(shard)) is not None:
        raise DataError(f"{folder.name}: {shard}: {problem}; put the shard itself there, or remove it")


def from_shards(folder: Folder, names: list[str], settings: IngestSettings, split_of: Mapping[str, str]) -> Source:
    """`split_of` maps a name, in a record's field `split` or in the shard's own path, to its split."""
    samples = [(name, sample) for name in names for sample in _samples_of(folder, name)]
    labelled = [(name, sample) for name, sample in samples if sample.row]
    names_of_fields = list(dict.fromkeys(key for _, sample in labelled for key in sample.row))
    if not names_of_fields:
        raise DataError(f"{folder.name}: no sample has a .cls or .json file beside its image; add them to the shards")
    fields_ = renamed(names_of_fields, [sample.row for _, sample in labelled], settings, source=folder.name)
    for (_, sample), row in zip(labelled, fields_.rows, strict=True):
        sample.row = dict(row)
    labels = label_columns(fields_.names, fields_.rows, settings, source=folder.name)
    split_of_shard = _splits_of_shards(names, split_of)
    images, others = [], list[str]()
    for name, sample in samples:
        sample_name = f"{name}: {sample.key}"
        if not sample.row:
            if sample.image is not None:
                raise DataError(f"{sample_name}: has no .cls or .json file with its label; add one or remove the image")
            others += [f"{name}/{other}" for other in sample.others]
            continue
        # Without an image, the first other file is listed instead, and is quarantined.
        rest = sample.others if sample.image else sample.others[1:]
        others += [f"{name}/{other}" for other in rest]
        fields = vars(read_row(sample.row, labels, settings, split_of, row_name=sample_name))
        fields["given_split"] = fields["given_split"] or split_of_shard.get(name)
        images.append(_image(folder, name, sample, fields))
    return Source(images, labels.task, labels.levels, dict.fromkeys(others, NO_IMAGE))


def _image(folder: Folder, shard: str, sample: _Sample, fields: dict[str, Any]) -> SourceImage:
    prefix = shard.removesuffix(".tar")
    if sample.image is None:
        other = sample.others[0] if sample.others else ""
        path = f"{prefix}/{other or sample.key}"
        return SourceImage(path=path, read=bytes, problem="the sample has no image", **fields)
    member = sample.image
    return SourceImage(
        path=f"{prefix}/{PurePosixPath(member.name).as_posix()}",
        read=partial(folder.read_range, shard, member.offset_data, member.size),
        problem=None if member.isreg() and not member.issparse() else "not a plain file",
        **fields,
    )


def _samples_of(folder: Folder, shard: str) -> Iterator[_Sample]:
    """The samples in the shard's order."""
    samples: dict[str, _Sample] = {}
    last = ""
    try:
        with folder.open(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                last = member.name
                if member.isdir():
                    continue
                name = path_inside(member.name, shard, "the shard")
                within, _, file = name.rpartition("/")
                stem, _, extension = file.partition(".")
                if not stem:  # hidden, such as the resource forks of macOS
                    samples[name] = _Sample(name, others=[name])
                    continue
                key = f"{within}/{stem}" if within else stem
                _put(samples.setdefault(key, _Sample(key)), name, extension.lower(), member, tar, f"{shard}: {name}")
            _refuse_damaged(stream, tar.offset)
    except FileNotFoundError:
        raise DataError(f"{shard}: no such shard in {folder.name}; name existing ones") from None
    except OSError as problem:
        raise DataError(f"{shard}: can't be read: {problem.strerror or problem}; name a file that can") from None
    except (tarfile.TarError, EOFError) as problem:
        if last:
            raise DataError(
                f"{shard}: ends early or is damaged after {last}; copy it again, or pack it again"
            ) from None
        raise DataError(
            f"{shard}: can't be read as an uncompressed tar ({problem}); pack it again without compression"
        ) from None
    yield from samples.values()


def _refuse_damaged(stream: BinaryIO, end: int) -> None:
    """Raises ReadError unless the tar ends at byte `end`: tarfile takes any header that it can't read for the end.

    A broken copy that left zeros within the last record can't be distinguished from a complete tar.
    """
    size_bytes = stream.seek(0, os.SEEK_END)
    if not _MIN_END_BYTES <= size_bytes - end <= _MAX_END_BYTES:
        raise tarfile.ReadError("no end, or too long an end")
    stream.seek(end)
    if any(stream.read()):
        raise tarfile.ReadError("bytes after the end")


def _put(sample: _Sample, name: str, extension: str, member: tarfile.TarInfo, tar: tarfile.TarFile, label: str) -> None:
    if extension in ("cls", "json"):
        for key, value in _fields(extension, member, tar, label).items():
            if str(sample.row.setdefault(key, value)) != str(value):
                raise DataError(f"{label}: has {key} {value!r}, the sample's other file {sample.row[key]!r}; keep one")
    elif is_image(f"x.{extension}"):
        if sample.image is not None:
            raise DataError(f"{label}: the sample has another image, {sample.image.name}; give each its own name")
        sample.image = member
    else:
        sample.others.append(name)


def _fields(extension: str, member: tarfile.TarInfo, tar: tarfile.TarFile, label: str) -> dict[str, Any]:
    stream = tar.extractfile(member) if member.isreg() else None
    if stream is None:
        raise DataError(f"{label}: is not a plain file; pack the label itself")
    try:
        text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{label}: is not UTF-8 text; save it as UTF-8") from None
    return {"label": text.strip()} if extension == "cls" else json_object(text, label)


def _splits_of_shards(names: list[str], split_of: Mapping[str, str]) -> dict[str, str]:
    """The split in each shard's path, such as flowers-train-000.tar or train/000.tar; empty unless all have one."""
    split_of_shard = {}
    for name in names:
        words = re.split(r"[-_./]", name.lower())
        splits = {split_of[word] for word in words if word in split_of}
        if len(splits) != 1:
            return {}
        split_of_shard[name] = splits.pop()
    return split_of_shard


def _choices(piece: str, index: int) -> list[str]:
    if index % 2 == 0:  # text between the braces
        return [piece]
    if (numbers := _RANGE.fullmatch(piece)) is None:
        return piece.split(",")
    first, last = numbers.groups()
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
