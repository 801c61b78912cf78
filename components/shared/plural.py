"""Counts with their nouns, for sentences."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Such as "1 image" and "2 images"; `plural` is needed where it isn't the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
