"""Words that readers outside the project don't know, each with the word of the field that replaces it.

`python tests/support/banned_words.py PATH…` lists where they stand: in documents, strings, docstrings, comments and
names of Python files, and in page templates.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

BANNED = {
    r"\bat hand\b": "current, local",
    r"\bthe whole life of\b": "end-to-end",
    r"\b(deals?|dealt|dealing)\b(?! with)": "split, assign",
    r"\bworks? nothing\b": "nothing to do",
    r"\banew\b": "again, from scratch",
    r"\b(worked|works|work) out once\b": "cached, precomputed",
    r"\b(is|are|was|were|be) told\b": "reported, printed",
    r"\btells\b(?! apart)": "reports, logs, shows",
    r"\btelling\b": "reporting",
    r"\btold\b": "reported",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(goes|go|going|went|gone) on\b": "resumes, continues",
    r"\bsomebody was quicker\b": "lost the race, concurrent writer",
    r"\brivals?\b": "champion",
    r"\bstands? up to\b": "compared with",
    r"\bjudg(e|es|ed|ing)\b": "decide, score, validate",
    r"\b(surely|surest|surer)\b": "confidently, significantly",
    r"\b(by luck|luck|lucky)\b": "chance",
    r"\bunlike (images?|score)\b": "out-of-distribution",
    r"\bupended\b": "vertically flipped",
    r"\bstrange(r|st)?\b": "out-of-distribution",
    r"\bhousehold\b": "supervised processes",
    r"\bseal(s|ed)?\b": "hash",
    r"\brecompute\b": "activation_checkpointing",
    r"\bsettled?\b": "resolve",
    r"\bset aside\b": "back up",
    r"\b(takes?|taken|took) up\b": "check out, resume",
    r"\bleftovers?\b": "stale runs",
    r"\bshort-lived\b": "ephemeral",
    r"\bentrants?\b": "candidate",
    r"\bresident\b(?! (memory|set))": "GPU-cached",
    # As a noun alone: not "runs share the cache".
    r"\bshares? (of|in)\b|\b(an?|the|its|largest|least|unknown|same) shares?\b": "fraction",
    r"\bparts? of the (data|split)\b|\b(train|training|val|validation|test) parts?\b": "split",
    r"\bunder way\b": "in progress",
    r"\bsheets?\b": "preview grid",
    r"\bfor ever\b": "forever",
    r"\bin view of\b": "given",
}
"""Regular expression of a word: the word to write instead. Python names are read with `_` as a space."""
_PATTERNS = [(re.compile(pattern, re.IGNORECASE), better) for pattern, better in BANNED.items()]


def banned_in(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yields the line number, the word found and the word to write instead."""
    for number, text in _texts(path):
        for pattern, better in _PATTERNS:
            for found in pattern.finditer(text):
                yield number + text[: found.start()].count("\n"), found[0], better


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, source
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield token.start[0], token.string
        elif token.type == tokenize.NAME:
            yield token.start[0], re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", token.string).strip()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in (".py", ".md", ".yaml", ".j2", ".html", ".toml"))


if __name__ == "__main__":
    for file in (file for argument in sys.argv[1:] for file in _files(Path(argument))):
        for line, word, better in banned_in(file):
            print(f"{file}:{line}: {word!r} → {better}")
