"""Counts with their nouns, for sentences, and the type of sentences."""

Sentence = str
"""Text for people. The body of a function that returns one doesn't count for fingerprints: it changes no result."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Such as "1 image" and "2 images"; `plural` is needed where it isn't the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
