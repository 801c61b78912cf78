"""Damage of JPEG files that common decoders ignore: they fill in missing parts without an error.

There are two signs of damage:

- libjpeg warns of missing bits, extra bits and invalid codes. simplejpeg raises these warnings as errors, while Pillow
  drops them and OpenCV prints them.
- A progressive JPEG that is truncated exactly between two scans causes no warning. Each scan's header names its
  components, the band of coefficients (Ss to Se) and the lowest bit (Al) that it sends (ITU-T T.81, B.2.3 and annex G).
  A complete file sends every coefficient of every component down to bit 0, as the scan scripts of libjpeg, mozjpeg and
  jpegli do. The standard allows scripts that omit some (`cjpeg -scans`); such a file counts as truncated.

Damage that turns into other valid codes for the same number of blocks can't be detected: the file is another image.
"""

import re
from collections.abc import Iterator

import simplejpeg

_START_OF_SCAN, _END, _PROGRESSIVE = 0xDA, 0xD9, 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Markers within scan data, without stuffed bytes, fill bytes and restart markers."""
_NUM_COEFFICIENTS = 64
_UNSENT = 255
_DAMAGE = re.compile(r"(Corrupt JPEG data: (?P<what>.*)|Premature end of JPEG file)")
"""Other warnings, such as of an unknown version number, don't concern the pixels."""
_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_MOST_PADDING = 32
"""Number of bytes that some writers append to the last block; more of them are lost blocks."""


def damage_of(content: bytes) -> str | None:
    """A description of the damage of a JPEG's first image; None where it is undamaged."""
    try:
        # Every bit is read, whatever the size of the result.
        simplejpeg.decode_jpeg(content, "RGB", min_height=1, min_width=1)
    except ValueError as problem:
        warning = _DAMAGE.match(str(problem))
        if warning and not _is_padding(str(warning["what"])):
            return f"image file is truncated or damaged ({warning['what'] or 'it has no end'})"
    return "image file is truncated (scans are missing)" if lacks_scans(content) else None


def lacks_scans(content: bytes) -> bool:
    """Whether a JPEG ends before its last scan, despite its end marker; False where its headers can't be read."""
    return _may_have_several_scans(content) and _sends_less_than_all(content)


def _is_padding(what: str) -> bool:
    padding = _PADDING.match(what)
    return padding is not None and int(padding[1]) <= _MOST_PADDING


def _may_have_several_scans(content: bytes) -> bool:
    """Whether all scans must be checked, which takes time; most JPEGs have a single scan of all components."""
    frame, components, offset = None, 0, 2
    while len(segment := content[offset : offset + 10]) == 10 and segment[0] == 0xFF:
        if segment[1] == _START_OF_SCAN:
            return frame in (None, _PROGRESSIVE) or segment[4] != components
        if segment[1] in _FRAMES:
            frame, components = segment[1], segment[9]
        offset += 2 + int.from_bytes(segment[2:4])
    return True


def _sends_less_than_all(content: bytes) -> bool:
    progressive, closed = False, False
    lowest: dict[int, list[int]] = {}
    for marker, offset in _markers(content):
        if marker in _FRAMES:
            progressive = marker == _PROGRESSIVE
            num = int.from_bytes(content[offset + 9 : offset + 10])
            ids = content[offset + 10 : offset + 10 + 3 * num : 3]
            lowest = {each: [_UNSENT] * _NUM_COEFFICIENTS for each in ids}
        elif marker == _START_OF_SCAN:
            _note_scan(content[offset + 4 :][:14], lowest, progressive)
        elif marker == _END:
            closed = True
    return closed and any(bit for bits in lowest.values() for bit in bits)


def _note_scan(header: bytes, lowest: dict[int, list[int]], progressive: bool) -> None:
    """Notes the lowest bit that a scan sends of each coefficient; a sequential scan sends all bits, by definition."""
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
    """Each marker of the first image with its offset, up to the end marker."""
    offset = 2
    while (found := _MARKER.search(content, offset)) is not None:
        marker, offset = content[found.start() + 1], found.start()
        # A segment that reaches beyond the end can't be read.
        length = int.from_bytes(content[offset + 2 : offset + 4])
        if marker == _END or offset + 2 + length <= len(content):
            yield marker, offset
        if marker == _END:
            return
        offset += 2 + length
