"""Checks of every source, whatever its type; each mistake is reported before anything is written."""

import unicodedata
from collections import defaultdict

from components.data.images.decoding import IMAGE_ENDINGS
from components.data.sources.left_out import left_out_sentences
from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source
from components.shared.errors import DataError, nearest
from components.shared.plural import commonest


def check_source(source: Source, settings: IngestSettings, location: str, *, uses_given_splits: bool) -> None:
    """Raises DataError if no classifier can be trained on the source; `uses_given_splits`: its own splits are used."""
    _refuse_broken_text(source, location)
    _refuse_similar_paths(source, settings, location)
    _refuse_empty(source, location)
    _refuse_numbers(source, settings, location)
    _refuse_unknown_classes(source, settings, location)
    if uses_given_splits:
        _refuse_divided_groups(source, location)


def _refuse_broken_text(source: Source, location: str) -> None:
    """File names may be any bytes, and JSON may hold half a character: neither can be stored as text."""
    for image in source.images:
        try:
            "".join((image.path, *image.labels, image.group or "", image.further or "")).encode()
        except UnicodeEncodeError:
            shown = image.path.encode("utf-8", "backslashreplace").decode()
            raise DataError(f"{location}: {shown}: the name or the label isn't UTF-8 text; rename it") from None


def _refuse_empty(source: Source, location: str) -> None:
    hint = f"; {source.hint}" if source.hint else ""
    if not source.images:
        found = "; ".join(left_out_sentences(source.left_out).values())
        raise DataError(
            f"{location}: no labelled images in it{f' ({found})' if found else ''}; expected one folder per class with "
            f"{', '.join(IMAGE_ENDINGS)} files, or a table{hint}"
        )
    usable = [image for image in source.images if image.problem is None]
    if not usable:
        raise DataError(
            f"{location}: none of the {len(source.images)} files can be ingested "
            f"({commonest(str(image.problem) for image in source.images)}), for example {source.images[0].path}"
            f"{hint or '; fix this or give --data other images'}"
        )
    distinct = {image.labels for image in usable}
    classes = {name for labels in distinct for name in source.task_type.classes_of(labels)}
    if len(classes) < 2:
        named = f"only one class ({classes.pop()})" if classes else "no image has a label"
        raise DataError(f"{location}: {named}; a classifier needs at least two classes{hint}")


def _refuse_similar_paths(source: Source, settings: IngestSettings, location: str) -> None:
    """Folders of alike classes may differ only in case where both names are listed, or their classes were merged."""
    may_differ = settings.merge_alike_classes or settings.classes is not None
    seen: dict[str, str] = {}
    for image in source.images:
        folder, _, name = image.path.rpartition("/")
        key = f"{folder}/{_small(name)}" if may_differ else _small(image.path)
        if key in seen:
            raise DataError(
                f"{location}: {seen[key]} and {image.path} differ only in case, and are one file on many machines; "
                "rename or remove one"
            )
        seen[key] = image.path


def _small(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _refuse_numbers(source: Source, settings: IngestSettings, location: str) -> None:
    """Whole numbers are names if all labels are; one among other names is a mistake unless ingest.classes lists it.

    A number with leading zeros is a name, and so is another one of as many digits: 08, 09, 10.
    """
    vocabularies = source.task_type.vocabularies({image.labels for image in source.images if image.problem is None})
    for labels in vocabularies:
        padded = {len(label) for label in labels if label.isdecimal() and label.startswith("0") and len(label) > 1}
        values = {
            label: None if label.isdecimal() and len(label) in padded else _number(label) for label in sorted(labels)
        }
        numbers = [
            label for label, value in values.items() if value is not None and label not in (settings.classes or ())
        ]
        fractions = [label for label in numbers if values[label] != round(values[label] or 0)]
        names = [label for label, value in values.items() if value is None]
        if fractions and not names:
            raise DataError(
                f"{location}: the labels are numbers such as {fractions[0]}, which are no class names; "
                "give each image the name of its class"
            )
        if numbers and names:
            raise DataError(
                f"{location}: the label {numbers[0]} is a number among names such as {names[0]}; fix it, or list all "
                "classes in ingest.classes"
            )


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
        for label in source.task_type.listed_names(image.labels):
            if label not in settings.classes:
                raise DataError(
                    f"{location}: {image.path}: the label {label!r} is none of ingest.classes"
                    f"{nearest(label, settings.classes) or '; fix the label or add it to params.yaml'}"
                )


def _refuse_divided_groups(source: Source, location: str) -> None:
    splits: defaultdict[str, dict[str, str]] = defaultdict(dict)
    """By group: the path of its first image in each split."""
    for image in source.images:
        if image.group is not None and image.given_split is not None:
            splits[image.group].setdefault(image.given_split, image.path)
    for group, example in splits.items():
        if len(example) > 1:
            where = " and ".join(f"{path} in {split}" for split, path in example.items())
            raise DataError(
                f"{location}: group {group} is in {len(example)} splits ({where}); "
                "put a group into one split, leave out the column split, or set split.given: ignore"
            )
