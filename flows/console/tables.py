"""Tables on standard output: drawn on a terminal, plain aligned columns elsewhere."""

import sys
from collections.abc import Sequence


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Cells are shown as they are, without markup; what can't be printed becomes a question mark."""
    clean = [[_printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(title, columns, clean)
    else:
        _write(title, columns, clean)


def _printable(text: str) -> str:
    """Names come from users and servers: nothing in them may steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _draw(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _write(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    print(title)
    for row in (columns, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
