"""Markdown from text that users wrote: names come from folders and tables, and none of it may become markup."""

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\`*\[\]<>|#!]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""Underscores within a word need no escape."""


def plain(text: str) -> str:
    """The text on one line, with every special character escaped."""
    return _UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\g<0>", " ".join(text.split())))


def code(text: str) -> str:
    """The text as code, where only the bar of a table needs a backslash."""
    return f"`{text.replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """The cells are Markdown already; the columns in `numbers` are aligned right."""
    rules = ["---:" if place in numbers else "---" for place in range(len(columns))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (columns, rules, *rows))
