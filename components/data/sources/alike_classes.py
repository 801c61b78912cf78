"""Classes whose names differ only in case, blanks or Unicode form: one class that was spelled in two ways."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from components.data.sources.settings import IngestSettings
from components.data.sources.source import Source
from components.shared.errors import DataError
from components.shared.plural import Sentence, counted

Key = tuple[str, ...]
"""A folded name; in a hierarchy with the folded names above it."""


def resolve_alike_classes(source: Source, settings: IngestSettings, location: str) -> Source:
    """The source with each class spelled in one way. Raises DataError for alike classes that may not be merged.

    Names that ingest.classes lists are classes of their own, however alike.
    """
    spellings = _spellings(source)
    listed = set(settings.classes or ())
    alike = {key: found for key, found in spellings.items() if len(found) > 1 and not listed.issuperset(found)}
    if not alike:
        return source
    if not settings.merge_alike_classes:
        raise DataError(_refusal(list(alike.values()), location))
    spelling_of = {key: _chosen(found, listed) for key, found in alike.items()}
    images = [
        replace(image, labels=_respelled(source.task, image.labels, spelling_of)) if image.labels else image
        for image in source.images
    ]
    merged = [f"{_shown(found)} into {spelling_of[key]!r}" for key, found in alike.items()]
    return replace(source, images=images, notes=[*source.notes, f"merged alike classes: {'; '.join(merged)}"])


def folded(name: str) -> str:
    """The name without what people don't see, or don't mean: case, blanks, and how accents are encoded."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in text if not letter.isspace() and unicodedata.category(letter) != "Cf")


def _spellings(source: Source) -> dict[Key, Counter[str]]:
    """How many images spell each class how."""
    spellings: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for labels, count in Counter(image.labels for image in source.images).items():
        for key, label in _keyed(source.task, labels):
            spellings[key][label] += count
    return spellings


def _keyed(task: str, labels: Sequence[str]) -> Iterator[tuple[Key, str]]:
    keys = tuple(map(folded, labels))
    for index, label in enumerate(labels):
        yield (keys[: index + 1] if task == "hierarchy" else keys[index : index + 1]), label


def _respelled(task: str, labels: Sequence[str], spelling_of: dict[Key, str]) -> tuple[str, ...]:
    new = [spelling_of.get(key, label) for key, label in _keyed(task, labels)]
    return tuple(sorted(set(new)) if task == "multi_label" else new)


def _chosen(found: Counter[str], listed: set[str]) -> str:
    """A spelling that ingest.classes lists, else the commonest."""
    best = min(found, key=lambda name: (name not in listed, -found[name], name))
    return best if best in listed else " ".join(unicodedata.normalize("NFC", best).split())


def _refusal(alike: list[Counter[str]], location: str) -> Sentence:
    more = f" ({counted(len(alike) - 1, 'more such case')})" if len(alike) > 1 else ""
    return (
        f"{location}: the classes {_shown(alike[0])} differ only in {_difference(list(alike[0]))}{more}; rename one, "
        "merge such classes with --set ingest.merge_alike_classes=true, or list them in ingest.classes to keep both"
    )


def _shown(found: Counter[str]) -> Sentence:
    show = ascii if _difference(list(found)) == "Unicode form" else repr
    return " and ".join(f"{show(name)} ({counted(count, 'image')})" for name, count in sorted(found.items()))


def _difference(names: list[str]) -> str:
    if len({unicodedata.normalize("NFKC", name) for name in names}) == 1:
        return "Unicode form"
    return "blanks" if len({"".join(name.split()) for name in names}) == 1 else "case"
