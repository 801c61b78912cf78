"""Setting each value of params.yaml and setting it back: every other line and every comment stays as it was."""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from projects import REPOSITORY
from ruamel.yaml import YAML

from flows.project.yaml_text import NotWritable, find, load, with_value

_FLOW = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
_VALUES: tuple[Any, ...] = (
    None,
    [],
    1e-5,
    'it "is"\n# no: comment',
    {"b": [1, {"c": None}], "a": "on"},
    [{"GaussianBlur": {"p": 0.3}}],
)


def _in_blocks(section: str) -> str:
    """The same settings a line each, as other writers have them, with a comment beside and above every line."""
    stream = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.dump({section: load(_FLOW)[section]}, stream)
    lines = stream.getvalue().splitlines()
    return "\n".join(f"{_indent(line)}# above {n}\n{line}  # {n}" for n, line in enumerate(lines)) + "\n# the end\n"


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip()))


def _as_it_is(section: str) -> str:
    found = re.search(rf"^{section}:.*?(?=^\S|\Z)", _FLOW, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """The line of each setting of a section, and with its neighbours: the parser takes a while for all of them."""
    head, *lines = re.split(r"^(?=  [\w\"'#])", text, flags=re.MULTILINE)
    for number, line in enumerate(lines):
        yield line, head + "".join(lines[max(0, number - 1) : number + 2])


def _settings(content: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _settings(value, (*above, key))


def _at(content: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        content = content[key]
    return content


def _lines(text: str) -> list[str]:
    """Without regard to the column of a comment, which a long value moves, and to the kind of quotes."""
    return [re.sub(" +#", " #", line).replace('"', "'") for line in text.splitlines()]


@pytest.mark.parametrize("form", [_as_it_is, _in_blocks])
@pytest.mark.parametrize("section", load(_FLOW))
def test_every_value_is_set_and_set_back(section: str, form: Callable[[str], str]) -> None:
    whole = form(section)
    assert load(whole) == {section: load(_FLOW)[section]}
    for line, text in _pieces(whole):
        content = load(text)
        own = [keys for keys in _settings(content) if len(keys) > 1 and line.startswith(f"  {keys[1]}:")]
        for number, keys in enumerate(own):
            names, before = ".".join(keys).split("."), _at(content, keys)
            for value in (_VALUES[number % len(_VALUES)], _VALUES[(number + 1) % len(_VALUES)], []):
                place = find(content, names)
                assert (tuple(place.keys), place.missing) == (keys, [])
                changed = with_value(text, place, value)
                after = load(changed)
                assert _at(after, keys) == value
                back = with_value(changed, find(after, names), before)
                if isinstance(before, dict | list):
                    # What stood in lines of its own stands on one line now.
                    assert repr(load(back)) == repr(content)
                else:
                    assert _lines(back) == _lines(text)


@pytest.mark.parametrize(
    ("text", "names", "value", "expected"),
    [
        # Of a value in lines of its own those lines go, and nothing else.
        (
            "a:\n  b: # beside\n    - x # 1\n    # own\n    - y\n\n# next\nc: 1\n",
            "a.b",
            [],
            "a:\n  b: [] # beside\n\n# next\nc: 1\n",
        ),
        ("a:\n  b:\n  - x\n  c: 1 # c\n", "a.b", [1], "a:\n  b: [1]\n  c: 1 # c\n"),
        ("a:\n  b: |\n    many\n    lines\n\n  c: 1\n", "a.b", "one", "a:\n  b: one\n\n  c: 1\n"),
        ("a:\n  b: {x: 1,\n    y: 2}  # two\n", "a.b", {}, "a:\n  b: {}    # two\n"),
        # A place without a value, at the end, without an end of the line.
        ("a:\n  b:\n", "a.b", 1, "a:\n  b: 1\n"),
        ("a:\n  b:   # none\n  c: 1\n", "a.b", 1, "a:\n  b: 1 # none\n  c: 1\n"),
        ("a:\n  b: 1", "a.b", 2, "a:\n  b: 2"),
        # A comment stays in its column while that is free.
        ("a:\n  b: 1      # one\n", "a.b", 1000, "a:\n  b: 1000   # one\n"),
        ("a:\n  b: 1 # one\n", "a.b", 1000, "a:\n  b: 1000 # one\n"),
        # What the file lacks comes last in its section.
        ("a:\n  b: 1 # one\n\nc:\n  d: 1\n", "a.e", 2, "a:\n  b: 1 # one\n  e: 2\n\nc:\n  d: 1\n"),
        ("a:\n  b: {x: 1}\n", "a.b.y", 2, "a:\n  b: {x: 1, y: 2}\n"),
        ("a:\n  b: null\n", "a.b.y", 2, "a:\n  b: {y: 2}\n"),
        ("a:\n  b: 1\n", "c.d", 2, "a:\n  b: 1\nc: {d: 2}\n"),
        ("a:\n  x.y: 1\n", "a.x.z", 2, "a:\n  x.y: 1\n  x.z: 2\n"),
        ("'a':\n  \"b\": 1\n", "a.b", 2, "'a':\n  \"b\": 2\n"),
    ],
)
def test_the_text_around_a_value_stays(text: str, names: str, value: Any, expected: str) -> None:
    assert with_value(text, find(load(text), names.split(".")), value) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: {b: &x 1}\nc: {d: *x}\n", "a.b"),
        ("a: {b: &x 1}\nc: {d: *x}\n", "c.d"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "c.b"),
    ],
)
def test_what_would_change_another_place_is_refused(text: str, names: str) -> None:
    with pytest.raises(NotWritable):
        with_value(text, find(load(text), names.split(".")), 2)
