"""What no source may have, whatever kind it is; each mistake is one sentence, before anything is written."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator

from components.data.images.decoding import IMAGE_ENDINGS
from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source
from components.shared.errors import DataError, nearest


def refuse_useless(source: Source, settings: IngestSettings, location: str, *, given_counts: bool) -> None:
    """Raises DataError unless a classifier can learn from the source; `given_counts`: heed the author's splits."""
    _refuse_broken_text(source, location)
    _refuse_alike_paths(source, location)
    _refuse_empty(source, location)
    _refuse_numbers(source, settings, location)
    _refuse_unknown_classes(source, settings, location)
    if given_counts:
        _refuse_divided_groups(source, location)


def _refuse_broken_text(source: Source, location: str) -> None:
    """Names of files may be any bytes, and JSON may hold half a sign: neither can be written down."""
    for image in source.images:
        try:
            "".join((image.path, *image.labels, image.group or "", image.further or "")).encode()
        except UnicodeEncodeError:
            shown = image.path.encode("utf-8", "backslashreplace").decode()
            raise DataError(f"{location}: {shown}: the name or the label isn't UTF-8 text; rename it") from None


def _refuse_empty(source: Source, location: str) -> None:
    if not source.images:
        raise DataError(
            f"{location}: no images in it; expected one folder a class with {', '.join(IMAGE_ENDINGS)} files"
        )
    usable = [image for image in source.images if image.problem is None]
    if not usable:
        first = source.images[0]
        raise DataError(
            f"{location}: none of the {len(source.images)} files can be taken, for one {first.path}: {first.problem}; "
            "mend this or give --data other images"
        )
    sets = {image.labels for image in usable}
    classes = {label for labels in sets for label in labels} if source.kind == "multi" else set(map("/".join, sets))
    if len(classes) < 2:
        raise DataError(f"{location}: only one class ({classes.pop()}); a classifier needs at least two")


def _refuse_alike_paths(source: Source, location: str) -> None:
    seen: dict[str, str] = {}
    for image in source.images:
        key = unicodedata.normalize("NFC", image.path).casefold()
        if key in seen:
            raise DataError(
                f"{location}: {seen[key]} and {image.path} differ only in case, and are one file on many machines; "
                "rename or remove one"
            )
        seen[key] = image.path


def _refuse_numbers(source: Source, settings: IngestSettings, location: str) -> None:
    """Whole numbers are names where all labels are; among names one is a slip, unless the settings list it."""
    for labels in _columns_of_labels(source):
        values = {label: _number(label) for label in sorted(labels)}
        numbers = [
            label for label, value in values.items() if value is not None and label not in (settings.classes or ())
        ]
        fractions = [label for label in numbers if values[label] != round(values[label] or 0)]
        names = [label for label, value in values.items() if value is None]
        if fractions and not names:
            raise DataError(
                f"{location}: the labels are numbers such as {fractions[0]}, which name no classes; "
                "give each image the name of its class"
            )
        if numbers and names:
            raise DataError(
                f"{location}: the label {numbers[0]} is a number among names such as {names[0]}; mend it, or list all "
                "classes in ingest.classes"
            )


def _columns_of_labels(source: Source) -> Iterator[set[str]]:
    """The labels that must be of one kind: of a hierarchy each level's, else all."""
    sets = {image.labels for image in source.images if image.problem is None}
    if source.kind == "hierarchy":
        yield from map(set, zip(*sets, strict=True))
    else:
        yield {label for labels in sets for label in labels}


def _number(text: str) -> float | None:
    """None for a name; one such as 007 is a name too."""
    if text[:1] == "0" and text[1:2].isdigit():
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _refuse_unknown_classes(source: Source, settings: IngestSettings, location: str) -> None:
    if settings.classes is None:
        return
    for image in source.images:
        for label in image.labels if source.kind == "multi" else image.labels[-1:]:
            if label not in settings.classes:
                raise DataError(
                    f"{location}: {image.path}: the label {label!r} is none of ingest.classes"
                    f"{nearest(label, settings.classes) or '; mend the label or add it to params.yaml'}"
                )


def _refuse_divided_groups(source: Source, location: str) -> None:
    splits: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for image in source.images:
        if image.group is not None and image.given_split is not None:
            splits[image.group].setdefault(image.given_split, image.path)
    for group, example in splits.items():
        if len(example) > 1:
            where = " and ".join(f"{path} in {split}" for split, path in example.items())
            raise DataError(
                f"{location}: group {group} is given to {len(example)} splits ({where}); "
                "give a group one split, leave the column split out, or set split.given: ignore"
            )
