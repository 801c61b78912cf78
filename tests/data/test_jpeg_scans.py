"""A JPEG of several scans that was cut and then closed by an end mark is told from a whole one."""

import io
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import Image

from components.data import jpeg_scans
from components.data.decoding import UndecodableImage, decode, decode_reduced
from components.data.jpeg_scans import may_have_several_scans, what_scans_lack

END = b"\xff\xd9"


def picture(width: int = 120, height: int = 88) -> Image.Image:
    """A photograph's large forms and fine grain, so that each scan has something to say."""
    random = np.random.default_rng(4)
    forms = cv2.resize(
        random.integers(0, 256, (9, 9, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return Image.fromarray(np.clip(forms + random.integers(-25, 26, forms.shape), 0, 255).astype(np.uint8))


def stored(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def by_opencv(image: Image.Image, *flags: int) -> bytes:
    done, content = cv2.imencode(".jpg", np.asarray(image), flags)
    assert done
    return bytes(content)


def starts(content: bytes) -> list[int]:
    """Where each scan's own bits begin, and the end mark."""
    places = [place for kind, place in jpeg_scans._markers(content) if kind in (0xDA, 0xD9)]
    return [place + 2 + int.from_bytes(content[place + 2 : place + 4]) for place in places[:-1]] + places[-1:]


def in_colour_after_colour(image: Image.Image) -> bytes:
    """A sequential file with a scan a component: three grey files in one frame."""
    parts = [stored(image.getchannel(channel), quality=90) for channel in "RGB"]
    frame = parts[0].index(b"\xff\xc0")
    scans = [part[part.index(b"\xff\xda") : -2] for part in parts]
    of_three = b"\xff\xc0\x00\x11" + parts[0][frame + 4 : frame + 9] + b"\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    tables = parts[0][frame + 13 : parts[0].index(b"\xff\xda")]
    named = [scan[:5] + bytes([number]) + scan[6:] for number, scan in enumerate(scans, 1)]
    return parts[0][:frame] + of_three + tables + b"".join(named) + END


SEVERAL_SCANS = {
    "RGB": lambda: stored(picture(), progressive=True),
    "RGB without subsampling": lambda: stored(picture(), progressive=True, subsampling=0, quality=95),
    "grey": lambda: stored(picture().convert("L"), progressive=True),
    "CMYK": lambda: stored(picture().convert("CMYK"), progressive=True),
    "restart marks": lambda: stored(picture(), progressive=True, restart_marker_rows=1),
    "OpenCV": lambda: by_opencv(picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "a scan a colour": lambda: in_colour_after_colour(picture()),
}


def refused(content: bytes) -> str:
    with pytest.raises(UndecodableImage, match="broken image") as problem:
        decode(content, max_megapixels=10)
    # Whatever the way in, the answer is the same.
    with pytest.raises(UndecodableImage, match="broken image"):
        decode_reduced(content, max_megapixels=10, needed=lambda *_: (8, 8))
    return str(problem.value)


@pytest.mark.parametrize("name", SEVERAL_SCANS)
def test_a_file_that_was_cut_in_any_scan_and_closed_is_refused(name: str) -> None:
    content = SEVERAL_SCANS[name]()
    begun = starts(content)
    assert decode(content, max_megapixels=10).pixels_HWC.shape == (88, 120, 3)
    for begin, end in pairwise(begun[:-1]):
        assert "scans are missing" in refused(content[: begin + 1] + END)
        # Wherever else, in the tables between two scans too.
        for cut in range(begin, end, max(1, (end - begin) // 7)):
            refused(content[:cut] + END)


@pytest.mark.parametrize(
    "name", ["RGB", "RGB without subsampling", "grey", "restart marks", "OpenCV", "a scan a colour"]
)
def test_a_file_that_lacks_the_end_of_its_last_scan_is_refused(name: str) -> None:
    content = SEVERAL_SCANS[name]()
    begin, end = starts(content)[-2:]
    for lacking in (*range(80, 90), 110, 400, end - begin):
        assert "its last scan is cut short" in refused(content[: end - lacking] + END)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [10, 75, 100])
def test_whole_files_are_read_whoever_wrote_them(mode: str, quality: int) -> None:
    for size in ((1, 1), (8, 8), (17, 9), (120, 88)):
        image = picture(*size).convert(mode)
        for options in ({}, {"optimize": True}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_blocks": 2}):
            content = stored(image, progressive=True, quality=quality, **options)
            assert decode(content, max_megapixels=10).pixels_HWC.shape == (size[1], size[0], 3)


def test_whole_files_with_other_things_in_them_are_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = stored(picture(), progressive=True, exif=exif, comment=b"\xff\xda\xff\xd9")
    assert decode(turned, max_megapixels=10).pixels_HWC.shape == (120, 88, 3)
    assert decode(turned + b"more\xff\xd9", max_megapixels=10).pixels_HWC.shape == (120, 88, 3)
    stream = io.BytesIO()
    picture().save(stream, "MPO", save_all=True, append_images=[picture()], progressive=True)
    assert decode(stream.getvalue(), max_megapixels=10).pixels_HWC.shape == (88, 120, 3)
    grey_corner = Image.new("L", (40, 40), 128)
    assert decode(in_colour_after_colour(grey_corner.convert("RGB")), max_megapixels=10).format == "JPEG"


def test_files_of_one_scan_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_scans, "_num_unread", None)
    assert not may_have_several_scans(stored(picture()))
    assert what_scans_lack(stored(picture().convert("L"))) is None


def test_a_segment_that_reaches_beyond_the_end_is_no_error_of_its_own() -> None:
    content = stored(picture(), progressive=True)
    frame = content.index(b"\xff\xc2")
    assert what_scans_lack(content[: frame + 6]) is None
    refused(content[: starts(content)[3] - 3] + END)


def test_whatever_the_headers_say_there_is_an_answer() -> None:
    random = np.random.default_rng(6)
    content = stored(picture(24, 16), progressive=True)
    for _ in range(400):
        broken = bytearray(content)
        for place in random.integers(2, len(content), 4):
            broken[place] = random.choice([0, 1, 2, 0xDA, 0xC2, 0xFF, random.integers(256)])
        for given in (bytes(broken), bytes(broken[: random.integers(len(content))]) + END):
            answer = what_scans_lack(given)
            assert answer is None or answer.strip()
