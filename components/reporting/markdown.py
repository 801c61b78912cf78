"""Markdown out of texts that users wrote: names come from folders and tables, and nothing in them may become markup."""

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\`*\[\]<>|#!]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""Between letters it marks nothing, and stays as it is."""


def plain(text: str) -> str:
    """The text on one line, as it is."""
    return _UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\g<0>", " ".join(text.split())))


def code(text: str) -> str:
    """As code, in which no sign but the bar of a table needs a backslash."""
    return f"`{text.replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """The cells are Markdown already; the columns `numbers` stand at the right."""
    rules = ["---:" if place in numbers else "---" for place in range(len(columns))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (columns, rules, *rows))
