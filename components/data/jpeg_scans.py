"""Whether a JPEG that an end mark closes lacks scans, such as those of a progressive one, or the end of the last.

Decoders take what has come and say nothing, once an end mark closes the file. Two things tell:

- Each scan's header names its components, the band of coefficients (Ss to Se) and the lowest bit (Al) that it sends
  (ITU-T T.81, B.2.3 and annex G). A whole file sends every coefficient of every component down to bit 0: libjpeg's,
  mozjpeg's and jpegli's own scripts all do. The standard lets a script written by hand leave some out (`cjpeg -scans`);
  such a file is like one that was cut between two scans, and taken for one.
- A decoder that has the whole last scan skips what comes before the next marker; one that lacks bits reads it as bits.
  Without a marker libjpeg waits for more: it leaves bytes unread where it lacks bits, and none of those that it skips.
  Less than the last four blocks can't be told. Where a scan has restart marks, another of the same components has as
  many; without another, what is missing behind a restart mark can't be told.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image

_START_OF_SCAN, _END, _INTERVAL, _PROGRESSIVE = 0xDA, 0xD9, 0xDD, 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In a scan: neither stuffed nor fill bytes, nor the restart marks that belong to it."""
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SCAN_MARK, _PROGRESSIVE_MARK = b"\xff\xda", b"\xff\xc2"
_NUM_COEFFICIENTS = 64
_UNSENT = 255
_FILLING = b"\xff\x00"
"""Eight ones: no code of JPEG's has ones alone, so every missing symbol takes the 17 bits of a bad one (annex C)."""
_BYTES_AHEAD = 8
"""libjpeg reads so many ahead at most."""
_UNREAD = re.compile(r"\((\d+) bytes not processed\)")


def may_have_several_scans(content: bytes) -> bool:
    """Whether a closer look is worth its time, which it rarely is: most JPEGs have one scan of all three components."""
    first = content.find(_SCAN_MARK)
    one = first >= 0 and content[first + 4 : first + 5] == b"\x03" and content.find(_SCAN_MARK, first + 2) < 0
    return not one or _PROGRESSIVE_MARK in content


def what_scans_lack(content: bytes, *, even_of_one: bool = False) -> str | None:
    """What a closed JPEG lacks, or None; the end of the only scan is looked at where that is asked for."""
    progressive, num_scans, end = False, 0, None
    lowest: dict[int, list[int]] = {}
    restarts = _Restarts()
    for kind, place in _markers(content):
        restarts.read(content, kind, place)
        if kind in _FRAMES:
            progressive = kind == _PROGRESSIVE
            num = int.from_bytes(content[place + 9 : place + 10])
            ids = content[place + 10 : place + 10 + 3 * num : 3]
            lowest = {each: [_UNSENT] * _NUM_COEFFICIENTS for each in ids}
        elif kind == _START_OF_SCAN:
            num_scans += 1
            _send(content[place + 4 :][:14], lowest, progressive)
        elif kind == _END:
            end = place
    if not lowest or end is None:
        return None
    if any(bit for bits in lowest.values() for bit in bits):
        return "scans are missing"
    if restarts.lacking:
        cut = True
    elif progressive or num_scans > 1:
        # Where the decoder's buffer of six bytes or more just ends, none is left unread: never at two lengths in a row.
        cut = any(_num_unread(content[:end] + _FILLING * length) for length in (_BYTES_AHEAD, _BYTES_AHEAD + 1))
    else:
        # The rows of an only scan come as they are read, so a whole one needs no end mark.
        cut = even_of_one and _num_unread(content[:end] + _FILLING * _BYTES_AHEAD) is not None
    return "its last scan is cut short" if cut else None


@dataclass
class _Restarts:
    """Counts restart marks: scans of the same components have as many of them at one interval."""

    lacking: bool = False
    """Whether the last scan read has fewer than another."""
    _interval: bytes = b""
    _scan: tuple[bytes, bytes] | None = None
    _begin: int = 0
    _most: dict[tuple[bytes, bytes], int] = field(default_factory=dict)

    def read(self, content: bytes, kind: int, place: int) -> None:
        if self._scan is not None:
            num = len(_RESTART.findall(content, self._begin, place))
            most = self._most.setdefault(self._scan, num)
            self._most[self._scan], self.lacking, self._scan = max(most, num), num < most, None
        if kind == _INTERVAL:
            self._interval = content[place + 4 : place + 6]
        if kind == _START_OF_SCAN and any(self._interval):
            self._begin = place + 2 + int.from_bytes(content[place + 2 : place + 4])
            num_components = int.from_bytes(content[place + 4 : place + 5])
            self._scan = self._interval, content[place + 5 : place + 5 + 2 * num_components : 2]


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


def _num_unread(unclosed: bytes) -> int | None:
    """Bytes with which the decoder still could not do anything when it asked for more; None: it had enough."""
    try:
        with Image.open(io.BytesIO(unclosed), formats=("JPEG",)) as image:
            # Only the bits are of interest, so the picture may be small.
            image.draft(None, (1, 1))
            image.load()
    except OSError as problem:
        unread = _UNREAD.search(str(problem))
        return int(unread[1]) if unread else None
    return None
