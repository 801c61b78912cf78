"""What a JPEG lacks or has wrong of which common decoders say nothing: they fill in what is missing and go on.

Two things tell:

- libjpeg warns of bits that are missing, left over or no code at all, wherever that happens. simplejpeg raises what
  Pillow swallows and OpenCV writes to the terminal.
- A progressive JPEG that was cut just between two scans is in order for libjpeg. Each scan's header names its
  components, the band of coefficients (Ss to Se) and the lowest bit (Al) that it sends (ITU-T T.81, B.2.3 and annex G).
  A whole file sends every coefficient of every component down to bit 0: libjpeg's, mozjpeg's and jpegli's own scripts
  all do. The standard lets a script of one's own leave some out (`cjpeg -scans`); such a file is taken for a cut one.

Damage that happens to be codes of as many blocks can't be told: it is another picture.
"""

import re
from collections.abc import Iterator

import simplejpeg

_START_OF_SCAN, _END, _PROGRESSIVE = 0xDA, 0xD9, 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In a scan: neither stuffed nor fill bytes, nor the restart marks that belong to it."""
_NUM_COEFFICIENTS = 64
_UNSENT = 255
_DAMAGE = re.compile(r"(Corrupt JPEG data: (?P<what>.*)|Premature end of JPEG file)")
"""Other warnings, such as of a strange number of a version, are not about the picture."""
_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MOST_PADDING = 32
"""Bytes behind the last block that some writers leave; more of them were meant for blocks."""


def damage_of(content: bytes) -> str | None:
    """What is wrong with the first picture of a JPEG, or None."""
    try:
        # Every bit is read, whatever the size of the picture that comes out.
        simplejpeg.decode_jpeg(content, "RGB", min_height=1, min_width=1)
    except ValueError as problem:
        told = _DAMAGE.match(str(problem))
        if told and not _is_padding(str(told["what"])):
            return f"image file is truncated or damaged ({told['what'] or 'it has no end'})"
    return "image file is truncated (scans are missing)" if lacks_scans(content) else None


def lacks_scans(content: bytes) -> bool:
    """Whether an end mark closes a JPEG before all of its scans have come; False where its headers can't be read."""
    return _may_have_several_scans(content) and _sends_less_than_all(content)


def _is_padding(what: str) -> bool:
    left_over = _PADDING.match(what)
    return left_over is not None and int(left_over[1]) <= _MOST_PADDING


def _may_have_several_scans(content: bytes) -> bool:
    """Whether a closer look is worth its time, which it rarely is: most JPEGs have one scan of all components."""
    frame, components, place = None, 0, 2
    while len(segment := content[place : place + 10]) == 10 and segment[0] == 0xFF:
        if segment[1] == _START_OF_SCAN:
            return frame in (None, _PROGRESSIVE) or segment[4] != components
        if segment[1] in _FRAMES:
            frame, components = segment[1], segment[9]
        place += 2 + int.from_bytes(segment[2:4])
    return True


def _sends_less_than_all(content: bytes) -> bool:
    progressive, closed = False, False
    lowest: dict[int, list[int]] = {}
    for kind, place in _markers(content):
        if kind in _FRAMES:
            progressive = kind == _PROGRESSIVE
            num = int.from_bytes(content[place + 9 : place + 10])
            ids = content[place + 10 : place + 10 + 3 * num : 3]
            lowest = {each: [_UNSENT] * _NUM_COEFFICIENTS for each in ids}
        elif kind == _START_OF_SCAN:
            _send(content[place + 4 :][:14], lowest, progressive)
        elif kind == _END:
            closed = True
    return closed and any(bit for bits in lowest.values() for bit in bits)


def _send(header: bytes, lowest: dict[int, list[int]], progressive: bool) -> None:
    """Notes the lowest bits that a scan brings; those of sequential files bring all, whatever their headers say."""
    behind = 1 + 2 * int.from_bytes(header[:1])
    if len(header) < behind + 3:
        return
    ids, (first, last, bits) = header[1:behind:2], header[behind : behind + 3]
    band = range(first, min(last, _NUM_COEFFICIENTS - 1) + 1) if progressive else range(_NUM_COEFFICIENTS)
    for each in ids:
        for coefficient in band:
            if each in lowest:
                lowest[each][coefficient] = bits & 15 if progressive else 0


def _markers(content: bytes) -> Iterator[tuple[int, int]]:
    """Each marker of the first picture and its place, up to the end mark."""
    place = 2
    while (found := _MARKER.search(content, place)) is not None:
        kind, place = content[found.start() + 1], found.start()
        # Of a segment that reaches beyond the end nothing can be read.
        length = int.from_bytes(content[place + 2 : place + 4])
        if kind == _END or place + 2 + length <= len(content):
            yield kind, place
        if kind == _END:
            return
        place += 2 + length
