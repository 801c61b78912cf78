"""A value set in the text of a YAML file: all other lines and every comment stay as they are.

The text is spliced where the parser says that the value stands, and read again: what would change anything else, such
as an alias of another value, is refused.
"""

import copy
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

_COMMENT = re.compile(r" *(#[^\n]*)?(?=\n|\Z)")


class NotWritable(ValueError):
    """The place can't be changed alone; somebody has to do it by hand."""


@dataclass(frozen=True)
class Place:
    """Where a value stands, or would stand."""

    keys: list[str]
    """As the file has them: a key of a dictionary may have dots in it."""
    missing: list[str]
    """Those that the file lacks."""
    value: Any
    """What stands there: the value, or what lacks the missing keys."""


def load(text: str) -> Any:
    """With the reader that DVC uses."""
    return YAML(typ="safe", pure=True).load(text)


def find(content: Any, names: Sequence[str]) -> Place:
    """The place of names such as ["train", "epochs"]."""
    rest, keys = list(names), list[str]()
    while rest and isinstance(content, dict):
        length = next((n for n in range(1, len(rest) + 1) if ".".join(rest[:n]) in content), 0)
        if not length:
            break
        keys.append(".".join(rest[:length]))
        content, rest = content[keys[-1]], rest[length:]
    # tune.space has names of settings as its keys.
    if isinstance(content, dict) and len(rest) > 1 and any("." in str(key) for key in content):
        rest = [".".join(rest)]
    return Place(keys, rest, content)


def with_value(text: str, place: Place, value: Any) -> str:
    """The text with the value in its place; raises NotWritable where something else would change with it."""
    for name in reversed(place.missing[1:]):
        value = {name: value}
    expected = changed(load(text), place, value)
    whole = YAML(typ="safe", pure=True).compose(text)
    key, node = _pair(whole, place.keys)
    if not place.missing:
        written = _replaced(text, key, node, value)
    elif isinstance(node, MappingNode) and not node.flow_style and node.value:
        written = _added(text, node, place.missing[0], value)
    else:
        written = _replaced(text, key, node, {**(place.value or {}), place.missing[0]: value})
    try:
        is_written = _same(load(written), expected)
    except YAMLError:
        is_written = False
    if not is_written:
        raise NotWritable
    return written


def changed(content: Any, place: Place, value: Any) -> Any:
    """A copy of the content with the value in its place."""
    keys = [*place.keys, *place.missing[:1]]
    whole = copy.deepcopy(content)
    if place.missing and place.value is None:
        whole = changed(whole, Place(place.keys, [], None), {})
    inner = whole
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return whole


def _same(one: Any, other: Any) -> bool:
    """Also in type: 1, 1.0 and true are equal otherwise."""
    return repr(one) == repr(other)


def _pair(whole: Node, keys: Sequence[str]) -> tuple[Node | None, Node]:
    key, node = None, whole
    for name in keys:
        found = next((pair for pair in node.value if str(pair[0].value) == name), None)
        if found is None or found[1].start_mark.index < found[0].end_mark.index:
            # A merged key, or an alias, whose value stands elsewhere.
            raise NotWritable
        key, node = found
    return key, node


def _replaced(text: str, key: Node | None, node: Node, value: Any) -> str:
    assert key is not None  # the whole file is never replaced
    colon = text.index(":", key.end_mark.index) + 1
    start, end = node.start_mark.index, _end(text, node)
    gap = "" if start == node.end_mark.index else text[colon:start]
    if start == node.end_mark.index:
        end = colon
    elif "\n" in gap:
        # Below its key, where the lines of the value go; a comment beside the key stays.
        beside, end = colon + gap.index("\n"), _end_of_line(text, end)
        return _spliced(text, colon, beside, " " + _flow(value), text[colon:beside]) + text[end:]
    behind = _COMMENT.match(text, end)
    stop = behind.end() if behind else end
    return _spliced(text, colon, stop, (gap or " ") + _flow(value), text[end:stop]) + text[stop:]


def _spliced(text: str, colon: int, stop: int, written: str, comment: str) -> str:
    """Everything up to the value, the value, and its comment, in its column where that is free."""
    before = text[:colon] + written
    if not comment.strip():
        return before + comment
    sign = stop - len(comment.lstrip())
    column, taken = sign - _start_of_line(text, sign), len(before) - _start_of_line(before, len(before))
    return before + " " * max(1, column - taken) + comment.lstrip()


def _added(text: str, node: Node, name: str, value: Any) -> str:
    """As the last line of a section."""
    end, column = _end_of_line(text, _end(text, node)), node.value[0][0].start_mark.column
    return f"{text[:end]}\n{' ' * column}{_flow({name: value})[1:-1]}{text[end:] or chr(10)}"


def _end(text: str, node: Node) -> int:
    """Behind the last letter of the value: the parser counts what follows a block as a part of it."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        if not isinstance(node, MappingNode):
            return _end(text, node.value[-1])
        key, value = node.value[-1]
        empty = value.start_mark.index == value.end_mark.index
        return text.index(":", key.end_mark.index) + 1 if empty else _end(text, value)
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    return start + len(text[start:end].rstrip())


def _start_of_line(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _end_of_line(text: str, index: int) -> int:
    found = text.find("\n", index)
    return len(text) if found < 0 else found


def _flow(value: Any) -> str:
    """The value on one line."""
    stream, writer = io.StringIO(), YAML(typ="safe", pure=True)
    writer.default_flow_style, writer.width, writer.allow_unicode = True, 10**9, True
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    # In a list no end of a document follows it.
    writer.dump([value], stream)
    listed = stream.getvalue().strip()[1:-1]
    return listed if not isinstance(value, dict) or listed.startswith("{") else f"{{{listed}}}"
