"""Counts with their nouns, for sentences, and the type of sentences."""

from collections import Counter
from collections.abc import Iterable

Sentence = str
"""Text for people. The body of a function that returns one doesn't count for fingerprints: it changes no result."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Such as "1 image" and "2 images"; `plural` is needed where it isn't the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def commonest(reasons: Iterable[str], most: int = 3) -> Sentence:
    """The commonest of the reasons with their counts, such as "12 × the file is empty, 2 × the file is missing"."""
    counts = Counter(reasons).most_common()
    more = f", and {counted(len(counts) - most, 'other reason')}" if len(counts) > most else ""
    return ", ".join(f"{count} × {reason}" for reason, count in counts[:most]) + more
