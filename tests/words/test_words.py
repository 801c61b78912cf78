"""Names, messages, pages and documents use words that readers outside the project know."""

from pathlib import Path

import pytest
from banned_words import BANNED, banned_in
from projects import REPOSITORY

ENDINGS = (".py", ".md", ".yaml", ".j2", ".html")
PLACES = (
    "components",
    "darkroom",
    "flows",
    "docs",
    "infra",
    "benchmarks",
    "tests",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "params.yaml",
    "dvc.yaml",
)
QUOTING = (REPOSITORY / "tests/support/banned_words.py", REPOSITORY / "tests/words/test_words.py")
"""Files that hold the words themselves."""


def files(place: str) -> list[Path]:
    path = REPOSITORY / place
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in ENDINGS and file not in QUOTING)


@pytest.mark.parametrize("place", PLACES)
def test_no_banned_word(place: str) -> None:
    found = [
        f"{file.relative_to(REPOSITORY)}:{line}: write {better!r} for {word!r}"
        for file in files(place)
        for line, word, better in banned_in(file)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('MESSAGE = "the data at hand"\n', "at hand"),
        ("def deal_out(): ...\n", "deal"),
        ("# Somebody told it so.\n", "told"),
        ('"""The share of images."""\n', "The share"),
    ],
)
def test_a_banned_word_is_found_in_strings_names_comments_and_docstrings(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(text)
    assert [found for _, found, _ in banned_in(file)] == [word]


def test_a_plain_module_passes(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""The fraction of images in each split."""\n')
    assert list(banned_in(file)) == []
    assert BANNED
