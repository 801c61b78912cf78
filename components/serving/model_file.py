"""What an ONNX file is before anything loads it: whole, of this format, and holding its weights itself.

The file is walked as protobuf's wire format says (protobuf.dev/programming-guides/encoding), with the field numbers of
onnx.proto (github.com/onnx/onnx), so that who only predicts needs no onnx package, and no reference to another file is
ever followed.
"""

from collections.abc import Iterator
from pathlib import Path

from components.shared.errors import ServiceError

_VARINT, _EIGHT_BYTES, _TEXT, _FOUR_BYTES = 0, 1, 2, 5

# The fields on the way from a model to its tensors: message → field → message.
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_METADATA = (14, _TEXT)
_KEY, _VALUE = 1, 2
_DEEPEST = 64

_OTHER_KINDS = (
    (b"PK\x03\x04", "a zip archive, perhaps a torch checkpoint"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
)


def check_model_file(content: bytes, file: Path) -> None:
    """Raises ServiceError, in one sentence, for what is no ONNX model, is cut short, or keeps weights elsewhere."""
    remedy = "give the .onnx file that `darkroom quantize` or `darkroom run` wrote"
    if not content:
        raise ServiceError(f"{file} is empty (0 bytes); {remedy}")
    if (kind := _other_kind(content)) is not None:
        raise ServiceError(f"{file} is {kind}, no ONNX model; {remedy}")
    try:
        graphs = sum(number == 7 for number, _, _ in _fields(content, 0, len(content)))
        elsewhere = next(_external(content, 0, len(content), "model", 0), None)
    except (ValueError, IndexError):
        raise ServiceError(f"{file} can't be loaded as ONNX: it is cut short or of another kind; {remedy}") from None
    if graphs != 1:
        raise ServiceError(f"{file} can't be loaded as ONNX: it holds no graph; {remedy}")
    if elsewhere is not None:
        tensor, location = elsewhere
        raise ServiceError(
            f"{file} keeps the weights {tensor!r} in another file ({location!r}), which is never read; "
            "export it again as one file"
        )


def metadata_of(content: bytes) -> dict[str, str]:
    """Of a file that `check_model_file` passed."""
    places = [place for number, kind, place in _fields(content, 0, len(content)) if (number, kind) == _METADATA]
    entries = [{field: _text(content, *one) for field, _, one in _fields(content, *place)} for place in places]
    return {entry.get(_KEY, ""): entry.get(_VALUE, "") for entry in entries}


def _other_kind(content: bytes) -> str | None:
    for start, kind in _OTHER_KINDS:
        if content.startswith(start):
            return kind
    # safetensors: the length of a JSON header in eight bytes, then the header.
    return "a safetensors file" if content[8:10] == b'{"' else None


def _external(content: bytes, start: int, end: int, message: str, depth: int) -> Iterator[tuple[str, str]]:
    """Name and place of each tensor whose values stand in another file."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if message == "tensor":
        yield from _external_tensor(content, start, end)
        return
    ways = _WAYS[message]
    for number, kind, (first, last) in _fields(content, start, end):
        if kind == _TEXT and number in ways:
            yield from _external(content, first, last, ways[number], depth + 1)


def _external_tensor(content: bytes, start: int, end: int) -> Iterator[tuple[str, str]]:
    name, location, external = "", "", False
    for number, kind, (first, last) in _fields(content, start, end):
        if number == _TENSOR_NAME and kind == _TEXT:
            name = _text(content, first, last)
        elif number == _DATA_LOCATION and kind == _VARINT:
            external = external or first != 0
        elif number == _EXTERNAL_DATA and kind == _TEXT:
            external = True
            entry = {field: _text(content, *place) for field, _, place in _fields(content, first, last)}
            location = entry.get(_VALUE, "") if entry.get(_KEY) == "location" else location
    if external:
        yield name, location


def _fields(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Number, wire kind and place of each field; for a varint its value stands first in the place."""
    position = start
    while position < end:
        tag, position = _varint(content, position, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("no field has the number 0")
        if kind == _VARINT:
            value, position = _varint(content, position, end)
            yield number, kind, (value, value)
            continue
        if kind == _TEXT:
            size, position = _varint(content, position, end)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field is of the kind {kind}")
        if position + size > end:
            raise ValueError("the field is longer than what holds it")
        yield number, kind, (position, position + size)
        position += size


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError("the number is cut short")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("the number is longer than ten bytes")


def _text(content: bytes, start: int, end: int) -> str:
    return content[start:end].decode("utf-8", "replace")
