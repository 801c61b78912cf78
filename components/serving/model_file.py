"""Checks of an ONNX file before anything loads it: complete, an ONNX model, and with all weights in this file.

The file is parsed as protobuf's wire format (protobuf.dev/programming-guides/encoding) with the field numbers of
onnx.proto (github.com/onnx/onnx), so that prediction needs no onnx package, and references to other files are never
followed.
"""

from collections.abc import Iterator
from pathlib import Path

from components.shared.errors import ServiceError

_VARINT, _EIGHT_BYTES, _TEXT, _FOUR_BYTES = 0, 1, 2, 5

# The fields that lead from a model to its tensors: message → field → message.
_MESSAGE_FIELDS: dict[str, dict[int, str]] = {
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
_MAX_DEPTH = 64

_OTHER_TYPES = (
    (b"PK\x03\x04", "a zip archive, perhaps a torch checkpoint"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
)


def check_model_file(content: bytes, file: Path) -> None:
    """Raises ServiceError for a file that is no ONNX model, is cut short, or keeps weights in another file."""
    remedy = "give the .onnx file that `darkroom quantize` or `darkroom run` wrote"
    if not content:
        raise ServiceError(f"{file} is empty (0 bytes); {remedy}")
    if (file_type := _other_type(content)) is not None:
        raise ServiceError(f"{file} is {file_type}, no ONNX model; {remedy}")
    try:
        graphs = sum(number == 7 for number, _, _ in _fields(content, 0, len(content)))
        external = next(_external(content, 0, len(content), "model", 0), None)
    except (ValueError, IndexError):
        raise ServiceError(f"{file} can't be loaded as ONNX: it is cut short or no ONNX file; {remedy}") from None
    if graphs != 1:
        raise ServiceError(f"{file} can't be loaded as ONNX: it holds no graph; {remedy}")
    if external is not None:
        tensor, location = external
        raise ServiceError(
            f"{file} keeps the weights {tensor!r} in another file ({location!r}), which is never read; "
            "export it again as one file"
        )


def metadata_of(content: bytes) -> dict[str, str]:
    """Metadata entries of a file that passed `check_model_file`."""
    spans = [span for number, wire_type, span in _fields(content, 0, len(content)) if (number, wire_type) == _METADATA]
    entries = [{field: _text(content, *value) for field, _, value in _fields(content, *span)} for span in spans]
    return {entry.get(_KEY, ""): entry.get(_VALUE, "") for entry in entries}


def _other_type(content: bytes) -> str | None:
    for start, file_type in _OTHER_TYPES:
        if content.startswith(start):
            return file_type
    # safetensors: the length of a JSON header in eight bytes, then the header.
    return "a safetensors file" if content[8:10] == b'{"' else None


def _external(content: bytes, start: int, end: int, message: str, depth: int) -> Iterator[tuple[str, str]]:
    """Name and file of each tensor whose values are in another file."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if message == "tensor":
        yield from _external_tensor(content, start, end)
        return
    fields = _MESSAGE_FIELDS[message]
    for number, wire_type, (first, last) in _fields(content, start, end):
        if wire_type == _TEXT and number in fields:
            yield from _external(content, first, last, fields[number], depth + 1)


def _external_tensor(content: bytes, start: int, end: int) -> Iterator[tuple[str, str]]:
    name, location, external = "", "", False
    for number, wire_type, (first, last) in _fields(content, start, end):
        if number == _TENSOR_NAME and wire_type == _TEXT:
            name = _text(content, first, last)
        elif number == _DATA_LOCATION and wire_type == _VARINT:
            external = external or first != 0
        elif number == _EXTERNAL_DATA and wire_type == _TEXT:
            external = True
            entry = {field: _text(content, *span) for field, _, span in _fields(content, first, last)}
            location = entry.get(_VALUE, "") if entry.get(_KEY) == "location" else location
    if external:
        yield name, location


def _fields(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Number, wire type and span (start, end) of each field; the span of a varint is its value, twice."""
    position = start
    while position < end:
        tag, position = _varint(content, position, end)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("no field has the number 0")
        if wire_type == _VARINT:
            value, position = _varint(content, position, end)
            yield number, wire_type, (value, value)
            continue
        if wire_type == _TEXT:
            size, position = _varint(content, position, end)
        elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire_type == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field has the wire type {wire_type}")
        if position + size > end:
            raise ValueError("the field is longer than its message")
        yield number, wire_type, (position, position + size)
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
