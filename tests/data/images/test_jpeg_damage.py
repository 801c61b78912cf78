"""Damaged JPEGs are refused, also those that other decoders read without an error, and undamaged ones are not."""

import io
import random
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import Image

from components.data.images import jpeg_damage
from components.data.images.decoding import UndecodableImage, decode
from components.data.images.jpeg_damage import damage_of, lacks_scans

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


def turned_by(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def starts(content: bytes) -> list[int]:
    """Where each scan's own bits begin, and the end mark."""
    places = [place for kind, place in jpeg_damage._markers(content) if kind in (0xDA, 0xD9)]
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


def is_refused(content: bytes) -> bool:
    try:
        decode(content, max_megapixels=10)
    except UndecodableImage:
        return True
    return False


def refused(content: bytes) -> str:
    with pytest.raises(UndecodableImage, match="broken image") as problem:
        decode(content, max_megapixels=10)
    # Whatever the way in, the answer is the same.
    with pytest.raises(UndecodableImage, match="broken image"):
        decode(content, max_megapixels=10, minimum_size=lambda *_: (8, 8))
    return str(problem.value)


@pytest.mark.parametrize("name", SEVERAL_SCANS)
def test_a_file_truncated_in_any_scan_and_closed_is_refused(name: str) -> None:
    content = SEVERAL_SCANS[name]()
    begun = starts(content)
    assert decode(content, max_megapixels=10).pixels_HWC.shape == (88, 120, 3)
    for place, (begin, end) in enumerate(pairwise(begun[:-1])):
        header = content.rindex(b"\xff\xda", 0, begin)
        # Before the first scan there is no picture at all.
        assert "scans are missing" in refused(content[:header] + END) or place == 0
        # Wherever else, in the tables between two scans too.
        for cut in range(begin, end, max(1, (end - begin) // 7)):
            refused(content[:cut] + END)


# The last scan of the one in CMYK is of nothing but 16 bits.
@pytest.mark.parametrize("name", sorted(set(SEVERAL_SCANS) - {"CMYK"}))
def test_a_file_that_lacks_the_end_of_its_last_scan_is_refused(name: str) -> None:
    content = SEVERAL_SCANS[name]()
    begin, end = starts(content)[-2:]
    for lacking in (*range(3, 12), 40, 80, 400, end - begin - 1):
        refused(content[: end - lacking] + END)


ONE_SCAN = {
    "RGB": lambda: stored(picture()),
    "grey": lambda: stored(picture().convert("L")),
    "CMYK": lambda: stored(picture().convert("CMYK")),
    "turned": lambda: stored(picture(), exif=turned_by(6)),
    "restart marks": lambda: stored(picture(), restart_marker_blocks=4),
}


@pytest.mark.parametrize("name", ONE_SCAN)
def test_a_truncated_file_of_one_scan_with_an_end_marker_is_refused(name: str) -> None:
    content = ONE_SCAN[name]()
    begin, end = starts(content)
    assert decode(content, max_megapixels=10).format == "JPEG"
    for cut in (*range(begin, end, (end - begin) // 7), end - 12, end - 3):
        assert "truncated" in refused(content[:cut] + END)


@pytest.mark.parametrize("name", ONE_SCAN)
def test_a_hole_in_a_file_is_detected(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = ONE_SCAN[name]()
    begin, end = starts(content)
    holes = range(begin, end - 300, (end - 300 - begin) // 20)
    refusals = [is_refused(content[:hole] + bytes(300) + content[hole + 300 :]) for hole in holes]
    # Where the decoder synchronizes again and the number of blocks is right, damage can't be detected.
    assert np.mean(refusals) > 0.6
    assert capfd.readouterr().err == ""


def test_a_few_bytes_behind_the_last_block_do_no_harm() -> None:
    content = stored(picture())
    padded, more = (content[:-2] + b"\x55" * count + END for count in (9, 99))
    assert np.array_equal(*(decode(one, max_megapixels=10).pixels_HWC for one in (content, padded)))
    assert "extraneous bytes before" in refused(more)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [10, 75, 100])
def test_undamaged_files_of_all_writers_are_read(mode: str, quality: int) -> None:
    for size in ((1, 1), (8, 8), (17, 9), (120, 88)):
        image = picture(*size).convert(mode)
        for options in ({}, {"optimize": True}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_blocks": 2}):
            content = stored(image, progressive=True, quality=quality, **options)
            assert decode(content, max_megapixels=10).pixels_HWC.shape == (size[1], size[0], 3)


def test_undamaged_files_with_additional_segments_are_read() -> None:
    turned = stored(picture(), progressive=True, exif=turned_by(6), comment=b"\xff\xda\xff\xd9")
    assert decode(turned, max_megapixels=10).pixels_HWC.shape == (120, 88, 3)
    assert decode(turned + b"more\xff\xd9", max_megapixels=10).pixels_HWC.shape == (120, 88, 3)
    stream = io.BytesIO()
    picture().save(stream, "MPO", save_all=True, append_images=[picture()], progressive=True)
    assert decode(stream.getvalue(), max_megapixels=10).pixels_HWC.shape == (88, 120, 3)
    grey_corner = Image.new("L", (40, 40), 128)
    assert decode(in_colour_after_colour(grey_corner.convert("RGB")), max_megapixels=10).format == "JPEG"


def test_files_of_one_scan_skip_the_check_of_all_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_damage, "_markers", None)
    assert not lacks_scans(stored(picture()))


def test_a_segment_that_reaches_beyond_the_end_is_no_error_of_its_own() -> None:
    content = stored(picture(), progressive=True)
    frame = content.index(b"\xff\xc2")
    assert not lacks_scans(content[: frame + 6])
    refused(content[: starts(content)[3] - 3] + END)


def test_any_header_bytes_give_a_result() -> None:
    random = np.random.default_rng(6)
    content = stored(picture(24, 16), progressive=True)
    for _ in range(400):
        broken = bytearray(content)
        for place in random.integers(2, len(content), 4):
            broken[place] = random.choice([0, 1, 2, 0xDA, 0xC2, 0xFF, random.integers(256)])
        for given in (bytes(broken), bytes(broken[: random.integers(len(content))]) + END):
            answer = damage_of(given)
            assert answer is None or answer.strip()


def reason(content: bytes, reduction: int) -> str | None:
    try:
        decode(content, max_megapixels=10, minimum_size=lambda width, height: (width // reduction, height // reduction))
    except UndecodableImage as problem:
        return str(problem)
    return None


def damaged(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(2, len(content) - 2)
    if draw.random() < 0.3:
        return content[:place] + END
    byte = content[place] ^ 1 << draw.randrange(8)
    return content[:place] + bytes([byte]) + content[place + 1 :]


@pytest.mark.parametrize("progressive", [False, True])
def test_reduced_decoding_refuses_the_same_damage_as_full_decoding(progressive: bool) -> None:
    content, draw = stored(picture(), progressive=progressive), random.Random(2027)
    results = [
        [reason(broken, reduction) for reduction in (1, 2, 4, 8)]
        for broken in (damaged(content, draw) for _ in range(300))
    ]
    assert all(len(set(reasons)) == 1 for reasons in results)
    assert 0.2 < np.mean([reasons[0] is None for reasons in results]) < 0.8
